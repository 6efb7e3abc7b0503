"""The channels that were considered for the `light` preset."""

from sftrack.config import ChannelConfig


def _of(tracker: str, **params: object) -> ChannelConfig:
    settings = " ".join(f"{key}={value:g}" if isinstance(value, int | float) else f"{key}={value}" for key, value in params.items())
    return ChannelConfig(f"{tracker} {settings}".strip(), tracker, params)


CANDIDATES: tuple[ChannelConfig, ...] = (
    *(_of("csrt", target_px=float(px)) for px in (24, 32, 48)),
    _of("csrt", target_px=32.0, scales=17, admm_iterations=2),
    _of("csrt", target_px=32.0, template_size=128),
    _of("csrt", target_px=32.0, template_size=128, scales=17),
    *(_of("kcf", target_px=float(px)) for px in (24, 40, 64)),
    *(_of("kcf", target_px=40.0, threshold=threshold) for threshold in (0.2, 0.3)),
    *(_of("mosse", target_px=float(px)) for px in (32, 64, 120)),
    *(_of("medianflow", target_px=float(px)) for px in (32, 64, 120)),
    *(_of("mil", target_px=float(px)) for px in (24, 40)),
    _of("mil", target_px=24.0, search_radius=15.0, features=100),
)
