//! `tessera-loadtest`: open-loop load for whole deployments.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
