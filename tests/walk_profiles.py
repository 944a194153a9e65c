"""How far random walks go: `pytest --hypothesis-profile=long` takes the long ones."""

from hypothesis import HealthCheck, Phase, settings

_EVERY_WALK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    report_multiple_bugs=False,
)

settings.register_profile(
    "bounded",
    _EVERY_WALK,
    max_examples=6,
    stateful_step_count=10,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.register_profile("long", _EVERY_WALK, max_examples=60, stateful_step_count=30)
settings.load_profile("bounded")
