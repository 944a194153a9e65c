import pytest

from app.core.celery import celery_app
from app.tasks.thumbnails import make_thumbnail
from kit.commands import dead_letters
from kit.testing import QueueProcess


@pytest.mark.slow
def test_an_image_that_crashes_the_library_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("worker", "--pool", "processes", "--concurrency", "1")
    with QueueProcess(*options, CELERY_MAX_DELIVERIES="2") as worker:
        worker.wait_for("ready.")
        bomb = make_thumbnail.delay("bomb.png")
        assert make_thumbnail.delay("cat.png").get(timeout=30) == "small-cat.png"

        with pytest.raises(Exception, match="given up after 2 deliveries"):
            bomb.get(timeout=60)

        worker.wait_for(f"make_thumbnail[{bomb.id}] args=('bomb.png',)")
    assert celery_app.AsyncResult(bomb.id).state == "FAILURE"
    assert dead_letters.main(["--drop", bomb.id]) == 0
    assert "('bomb.png',)" in capsys.readouterr().out
