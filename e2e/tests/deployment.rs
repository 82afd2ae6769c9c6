//! `deploy/` as far as it can be judged without containers: what the compose file starts exists, listens on loopback alone, and
//! fits Prometheus, Grafana and the settings. What the settings mean is tested where their types are, in `cli/tests`.

mod deployment {
    pub(crate) mod compose;
    pub(crate) mod watching;
}
