//! Certificates between servers: both sides show one, or a token stands for the lower one's.

use std::sync::Arc;

use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use crate::config::Cascade;
use crate::shell::sip::tls::{certificates, private_key, provider, roots, system_roots};

/// What is wrong, and with which key.
pub(crate) struct Wrong {
    pub(crate) key: &'static str,
    pub(crate) error: anyhow::Error,
}

fn wrong(key: &'static str) -> impl Fn(anyhow::Error) -> Wrong {
    move |error| Wrong { key, error }
}

/// What lower servers meet; none if nothing listens with TLS.
pub(super) fn server(config: &Cascade) -> Result<Option<Arc<ServerConfig>>, Wrong> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return Ok(None);
    };
    let chain = certificates(certificate).map_err(wrong("cascade.certificate"))?;
    let key = private_key(key).map_err(wrong("cascade.key"))?;
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| wrong("cascade.certificate")(e.into()))?;
    let builder = match &config.ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let issuers = roots(ca).map_err(wrong("cascade.ca"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(issuers, provider());
            // Who shows none may have a token.
            let verifier = verifier.allow_unauthenticated().build();
            let verifier = verifier.map_err(|e| wrong("cascade.ca")(e.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key);
    let config = config.map_err(|e| wrong("cascade.key")(e.into()))?;
    Ok(Some(Arc::new(config)))
}

/// What we meet the upper server with.
pub(crate) fn client(config: &Cascade) -> Result<Arc<ClientConfig>, Wrong> {
    let issuers = match &config.ca {
        Some(ca) => roots(ca).map_err(wrong("cascade.ca"))?,
        None => system_roots(),
    };
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| wrong("cascade.certificate")(e.into()))?;
    let builder = builder.with_root_certificates(issuers);
    let config = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate).map_err(wrong("cascade.certificate"))?;
            let key = private_key(key).map_err(wrong("cascade.key"))?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|e| wrong("cascade.key")(e.into()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Whether a certificate, verified already, bears a name.
pub(super) fn bears(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else {
        return false;
    };
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
}
