"""The processes: what they use, how late they are, how much more they bear."""

from __future__ import annotations

from deploy.monitoring.panels import HERE, Dashboard, Query, Row, Unit, lines, quantiles

_ONE = 'instance=~"$instance"'
_RELAY = f'job="relay",{_ONE}'
_GC = f"python_gc_collections_total{{{_RELAY}}}"

RUNTIME = Dashboard(
    "relay-runtime",
    "Relay: capacity and runtime",
    "One line for each relay.",
    (
        Row(
            "Capacity",
            (
                lines(
                    "Refused for want of capacity",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_capacity_refusals_total", "resource"), "{{resource}}"),
                    about="New sessions that were sent elsewhere, by what was short.",
                    width=8,
                ),
                lines(
                    "Capacity used, by resource",
                    Unit.SHARE,
                    Query(f"max by (instance, resource) (relay_capacity_ratio{{{_ONE}}})", "{{instance}} {{resource}}"),
                    about="At 1 new sessions are refused with 503. Scale on the largest.",
                    width=8,
                ),
                lines(
                    "Sessions",
                    Unit.COUNT,
                    Query(HERE.value("relay_sessions_active", "instance"), "{{instance}}"),
                    width=8,
                ),
            ),
        ),
        Row(
            "Process",
            (
                lines(
                    "CPU",
                    Unit.SHARE,
                    Query(f"rate(process_cpu_seconds_total{{{_RELAY}}}[$__rate_interval])", "{{instance}}"),
                    Query(
                        HERE.per_second("relay_worker_cpu_seconds_total", "instance", "worker"),
                        "{{instance}} worker {{worker}}",
                    ),
                    about="1 is one core. A process cannot use more than one.",
                ),
                lines(
                    "Event loop late",
                    Unit.SECONDS,
                    *quantiles("relay_event_loop_lag_seconds", "instance", shares=(0.5, 0.99)),
                    about="Above 50 ms sound suffers.",
                ),
                lines(
                    "Memory",
                    Unit.BYTES,
                    Query(f"process_resident_memory_bytes{{{_RELAY}}}", "{{instance}}"),
                    about="About 100 MB and 0.3 MB for each session; some is kept after they end.",
                ),
                lines(
                    "Memory for each session",
                    Unit.BYTES,
                    Query(
                        f"process_resident_memory_bytes{{{_RELAY}}}"
                        f" / on (job, instance) (sum by (job, instance) (relay_sessions_active{{{_ONE}}}) > 0)",
                        "{{instance}}",
                    ),
                    about="Falls as sessions come; a rise under constant load is a leak.",
                ),
                lines(
                    "Open files",
                    Unit.SHARE,
                    Query(f"process_open_fds{{{_RELAY}}} / process_max_fds{{{_RELAY}}}", "{{instance}}"),
                    about="A session holds one or two.",
                ),
                lines(
                    "Garbage collections",
                    Unit.PER_SECOND,
                    Query(
                        f"sum by (instance, generation) (rate({_GC}[$__rate_interval]))",
                        "{{instance}} generation {{generation}}",
                    ),
                ),
            ),
        ),
        Row(
            "Media workers",
            (
                lines(
                    "Workers' sessions",
                    Unit.COUNT,
                    Query(HERE.value("relay_worker_sessions", "instance", "worker"), "{{instance}} worker {{worker}}"),
                ),
                lines(
                    "Workers' loops late",
                    Unit.SECONDS,
                    Query(
                        f"max by (instance, worker) (relay_worker_loop_lag_seconds{{{_ONE}}})",
                        "{{instance}} worker {{worker}}",
                    ),
                    about="At worst in two seconds. Above 50 ms sound suffers.",
                ),
                lines(
                    "Workers' memory",
                    Unit.BYTES,
                    Query(
                        HERE.value("relay_worker_resident_memory_bytes", "instance", "worker"),
                        "{{instance}} worker {{worker}}",
                    ),
                ),
            ),
        ),
        Row(
            "Workers and traffic",
            (
                lines(
                    "Media workers",
                    Unit.COUNT,
                    Query(HERE.value("relay_workers", "instance", "state"), "{{instance}} {{state}}"),
                ),
                lines(
                    "Workers lost",
                    Unit.COUNT,
                    Query(HERE.counted("relay_worker_restarts_total", "instance"), "{{instance}}"),
                ),
                lines(
                    "Media",
                    Unit.BYTES_PER_SECOND,
                    Query(HERE.per_second("relay_media_bytes_total", "leg", "direction"), "{{leg}} {{direction}}"),
                ),
                lines(
                    "Events",
                    Unit.BYTES_PER_SECOND,
                    Query(HERE.per_second("relay_channel_bytes_total", "leg", "direction"), "{{leg}} {{direction}}"),
                ),
                lines(
                    "Length of sessions",
                    Unit.SECONDS,
                    *quantiles("relay_session_duration_seconds", shares=(0.5, 0.95)),
                    about="Of those that ended.",
                ),
                lines(
                    "Up since",
                    Unit.SECONDS,
                    Query(f"time() - process_start_time_seconds{{{_RELAY}}}", "{{instance}}"),
                ),
            ),
        ),
    ),
)
