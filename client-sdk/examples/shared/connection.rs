//! How every example finds its server and says who asks: by the variables that the command line reads, too.

use tessera_client::{Builder, Tessera};

/// Leads to `TESSERA_DATA_ADDR` (`host:port`, or with TLS `https://host:port`; else to `tessera dev`). Where servers ask who calls,
/// `TESSERA_TOKEN_FILE` names a file with a token to show; `TESSERA_CA_FILE` names the authorities (PEM) that they are known by,
/// where these are not the system's.
pub(crate) fn builder() -> std::io::Result<Builder> {
    let address = std::env::var("TESSERA_DATA_ADDR").unwrap_or_else(|_| "127.0.0.1:7400".to_owned());
    let endpoint = if address.contains("://") { address } else { format!("http://{address}") };
    let mut builder = Tessera::builder().endpoint(endpoint);
    if let Some(path) = std::env::var_os("TESSERA_TOKEN_FILE") {
        builder = builder.token_file(path);
    }
    if let Some(path) = std::env::var_os("TESSERA_CA_FILE") {
        builder = builder.certificate_authority(std::fs::read(path)?);
    }
    Ok(builder)
}
