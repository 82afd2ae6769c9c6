//! Whoever signs the certificates of a test. Nothing of it is read from anywhere or kept: each test has authorities of its own.

use std::time::Duration;

use anyhow::Context as _;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM.
    pub pem: String,
}

/// A certificate and its key, both in PEM.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// All of them have the same name, so that nobody is told apart by it.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Of a server with these names, which may be addresses.
    pub fn server(&self, names: &[&str]) -> anyhow::Result<Signed> {
        self.sign(CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?)
    }

    /// Of a workload with that SPIFFE id.
    pub fn workload(&self, spiffe_id: &str) -> anyhow::Result<Signed> {
        self.sign(of_workload(spiffe_id)?)
    }

    /// As [`Authority::workload`], good until then, in seconds since 1970.
    pub fn workload_until(&self, spiffe_id: &str, ends: u64) -> anyhow::Result<Signed> {
        let mut params = of_workload(spiffe_id)?;
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(ends);
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<Signed> {
        params.distinguished_name.push(DnType::CommonName, "whoever it is");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok(Signed { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}

fn of_workload(spiffe_id: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    let id = Ia5String::try_from(spiffe_id).with_context(|| format!("`{spiffe_id}` is no id"))?;
    params.subject_alt_names = vec![SanType::URI(id)];
    Ok(params)
}
