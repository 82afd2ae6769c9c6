//! `deploy/` as far as it can be judged without containers: what the compose file starts exists, listens on loopback alone, and
//! fits Prometheus, Grafana and the settings; what is for Kubernetes is valid there and asks for no more than it needs; every
//! alert can fire and has its runbook. What the settings mean is tested where their types are, in `cli/tests`.

mod deployment {
    pub(crate) mod alerts;
    pub(crate) mod compose;
    pub(crate) mod kubernetes;
    pub(crate) mod watching;
}
