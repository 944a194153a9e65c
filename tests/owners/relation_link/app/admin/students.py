"""Students and courses in the admin."""

from sqladmin import ModelView

from app.models.student import Course, Enrolment, Student


class StudentAdmin(ModelView, model=Student):
    """Students."""

    column_list = ("id", "name", "courses")
    column_searchable_list = ("name", "courses.title")


class CourseAdmin(ModelView, model=Course):
    """Courses."""

    column_list = ("id", "title", "students")


class EnrolmentAdmin(ModelView, model=Enrolment):
    """Who takes what."""

    column_list = ("student_id", "course_id")
    column_sortable_list = ("student_id",)
