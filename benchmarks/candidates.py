"""The channels that were considered for the `light` preset."""

from sftrack.config import ChannelConfig


def _of(tracker: str, **params: object) -> ChannelConfig:
    settings = " ".join(f"{key}={value:g}" if isinstance(value, int | float) else f"{key}={value}" for key, value in params.items())
    return ChannelConfig(f"{tracker} {settings}".strip(), tracker, params)


CANDIDATES: tuple[ChannelConfig, ...] = (
    _of("csrt", target_px=24.0),
    _of("csrt", target_px=40.0),
    _of("csrt", target_px=40.0, template_size=160, scales=9, admm_iterations=2),
    _of("csrt", target_px=40.0, template_size=130, scales=7, admm_iterations=2),
    _of("csrt", target_px=40.0, template_size=100, scales=17),
    _of("csrt", target_px=40.0, template_size=80, scales=9, admm_iterations=2),
    _of("kcf", target_px=40.0),
    _of("kcf", target_px=40.0, threshold=0.3),
    _of("mosse", target_px=60.0),
    _of("medianflow", target_px=60.0),
    _of("dcf", window_px=144.0, padding=2.0, scales=7, scale_step=1.05, min_score=0.4),
    _of("dcf", window_px=160.0, padding=2.0, scales=7, scale_step=1.05, constraint=2, rate=0.02),
    _of("template"),
    _of("template", target_px=32.0, first_share=0.3),
    _of("flow"),
    _of("flow", keeps_aspect=False),
    _of("colour"),
    _of("colour", size_cost=0.0),
    _of("colour", rate=0.02, reach=0.5),
    _of("online"),
    _of("online", caution=1.0),
)
