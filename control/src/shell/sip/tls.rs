//! Certificates: ours, and whose we believe.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use ipnet::IpNet;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::validity;
use crate::config::{Config, Peer, Pem, Verify};

/// Whom the system trusts, as Debian, Alpine and others keep it.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What TLS connections are made with, TLS 1.2 and above.
pub(crate) struct Tls {
    anybody: Arc<ServerConfig>,
    /// For those who must show a certificate.
    verified: Option<Arc<ServerConfig>>,
    verify: Verify,
    /// Peers' addresses, and prefixes that are trusted as they are.
    peers: Vec<IpNet>,
    client: Arc<ClientConfig>,
    /// When our certificate ends, in seconds since 1970.
    expires_s: u64,
}

/// What is wrong, and with which key.
pub(crate) struct Wrong {
    pub(crate) key: &'static str,
    pub(crate) error: anyhow::Error,
}

impl Tls {
    /// None if the configuration has no `[sip.tls]`.
    pub(crate) fn load(config: &Config) -> Result<Option<Self>, Wrong> {
        let Some(tls) = &config.sip.tls else {
            return Ok(None);
        };
        let wrong = |key| move |error| Wrong { key, error };
        let chain = certificates(&tls.certificate).map_err(wrong("sip.tls.certificate"))?;
        let expires_s = chain.first().and_then(|leaf| validity::not_after_s(leaf));
        let expires_s = expires_s
            .with_context(|| format!("{}: no validity in it", tls.certificate.path.display()))
            .map_err(wrong("sip.tls.certificate"))?;
        let key = || private_key(&tls.key);
        key().map_err(wrong("sip.tls.key"))?;
        let anybody = server(&chain, key(), None).map_err(wrong("sip.tls.key"))?;
        let issuers = tls.ca.as_ref().map(roots).transpose();
        let issuers = issuers.map_err(wrong("sip.tls.ca"))?;
        let verified = match (&issuers, tls.verify) {
            (Some(issuers), Verify::Peers | Verify::All) => {
                Some(server(&chain, key(), Some(issuers.clone())).map_err(wrong("sip.tls.ca"))?)
            }
            (None, _) | (_, Verify::None) => None,
        };
        let issuers = issuers.unwrap_or_else(system_roots);
        let client = client(&chain, key(), issuers).map_err(wrong("sip.tls.key"))?;
        Ok(Some(Self {
            anybody: Arc::new(anybody),
            verified: verified.map(Arc::new),
            verify: tls.verify,
            peers: config.sip.peers.iter().flat_map(Peer::nets).collect(),
            client: Arc::new(client),
            expires_s,
        }))
    }

    /// What somebody who connects from there must show.
    pub(super) fn server(&self, from: IpAddr) -> Arc<ServerConfig> {
        let must = match self.verify {
            Verify::None => false,
            Verify::Peers => {
                let from = from.to_canonical();
                self.peers.iter().any(|net| net.contains(&from))
            }
            Verify::All => true,
        };
        let verified = self.verified.as_ref().filter(|_| must);
        verified.unwrap_or(&self.anybody).clone()
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    pub(crate) fn expires_s(&self) -> u64 {
        self.expires_s
    }
}

/// For those who show no certificate of their own: nobody is asked for one.
///
/// # Errors
/// What is wrong with either.
pub(crate) fn one_way(
    (certificate, certificate_key): (&Pem, &'static str),
    (key, key_key): (&Pem, &'static str),
) -> Result<Arc<ServerConfig>, Wrong> {
    let wrong = |key| move |error| Wrong { key, error };
    let chain = certificates(certificate).map_err(wrong(certificate_key))?;
    let config = server(&chain, private_key(key), None);
    config.map(Arc::new).map_err(wrong(key_key))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server(
    chain: &[CertificateDer<'static>],
    key: anyhow::Result<PrivateKeyDer<'static>>,
    issuers: Option<Arc<RootCertStore>>,
) -> anyhow::Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = match issuers {
        None => builder.with_no_client_auth(),
        Some(issuers) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(issuers, provider());
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let config = builder.with_single_cert(chain.to_vec(), key?);
    config.context("the key does not belong to the certificate")
}

fn client(
    chain: &[CertificateDer<'static>],
    key: anyhow::Result<PrivateKeyDer<'static>>,
    issuers: Arc<RootCertStore>,
) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(issuers);
    let config = builder.with_client_auth_cert(chain.to_vec(), key?);
    config.context("the key does not belong to the certificate")
}

fn certificates(pem: &Pem) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let path = pem.path.display();
    let found = CertificateDer::pem_slice_iter(pem.text.as_bytes());
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .with_context(|| format!("{path}: not in PEM form"))?;
    if found.is_empty() {
        bail!("{path}: no certificate in it");
    }
    Ok(found)
}

fn private_key(pem: &Pem) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.text.as_bytes())
        .with_context(|| format!("{}: no private key in it", pem.path.display()))
}

fn roots(pem: &Pem) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        let added = roots.add(certificate);
        added.with_context(|| format!("{}: not an issuer", pem.path.display()))?;
    }
    Ok(Arc::new(roots))
}

/// None where the system has none: then nobody is believed.
fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Ok(found) = CertificateDer::pem_file_iter(SYSTEM_ROOTS) {
        // One that is not understood makes the others no worse.
        roots.add_parsable_certificates(found.flatten());
    }
    Arc::new(roots)
}
