"""Routes of jobs."""

from fastapi import APIRouter, HTTPException
from sqlmodel import col, func, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.job import Job

router = APIRouter(prefix="/jobs", tags=["Jobs"])


@router.post("", status_code=201)
async def create_job(session: SessionDep) -> Job:
    """Create a job."""
    job = Job()
    session.add(job)
    await session.commit()
    return job


@router.post("/claim")
async def claim_job(session: SessionDep) -> dict[str, int | None]:
    """Take the next job that no one else is taking."""
    statement = (
        select(Job)
        .where(col(Job.claims) == 0)
        .order_by(col(Job.id))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job = (await session.exec(statement)).first()
    if job is None:
        raise HTTPException(404, "There is no job left.")
    job.claims += 1
    await session.commit()
    return {"number": job.id}


@router.post("/{job_id}/nowait")
async def lock_job(job_id: int, session: SessionDep) -> dict[str, bool]:
    """Lock a job, or fail at once."""
    await session.get_one(Job, job_id, with_for_update={"nowait": True})
    return {"locked": True}


@router.get("")
async def count_jobs(session: ReadSessionDep) -> dict[str, int]:
    """Count what is claimed."""
    statement = select(func.count(), func.max(Job.claims)).where(col(Job.claims) > 0)
    claimed, most = (await session.exec(statement)).one()
    return {"claimed": claimed, "most_claims": most}
