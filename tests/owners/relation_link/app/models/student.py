"""Students and courses."""

from sqlmodel import Field, Relationship, SQLModel


class Enrolment(SQLModel, table=True):
    """That a student takes a course."""

    student_id: int | None = Field(default=None, foreign_key="student.id", primary_key=True)
    course_id: int | None = Field(default=None, foreign_key="course.id", primary_key=True)


class Student(SQLModel, table=True):
    """A student."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    courses: list["Course"] = Relationship(back_populates="students", link_model=Enrolment)

    def __str__(self) -> str:
        return self.name


class Course(SQLModel, table=True):
    """A course."""

    id: int | None = Field(default=None, primary_key=True)
    title: str
    students: list[Student] = Relationship(back_populates="courses", link_model=Enrolment)

    def __str__(self) -> str:
        return self.title
