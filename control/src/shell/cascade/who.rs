//! Who a server is: its name, and what proves it.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use subtle::ConstantTimeEq;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::tls;
use crate::config::{Lower, Secret};
use crate::shell::hex::sha256;

/// The header a server names itself in.
const SERVER: &str = "towpath-server";

/// Why a server is not let in. Both sides are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) detail: &'static str,
}

impl Refusal {
    pub(super) const STATUS: StatusCode = StatusCode::UNAUTHORIZED;

    const NO_NAME: Self = Self {
        code: "no_name",
        detail: "a server names itself in the header towpath-server",
    };
    const UNKNOWN: Self = Self {
        code: "unknown_server",
        detail: "no [[cascade.lower]] of the upper server has this id",
    };
    const NO_TOKEN: Self = Self {
        code: "no_token",
        detail: "the upper server knows this one by a token: set cascade.token_file",
    };
    const WRONG_TOKEN: Self = Self {
        code: "wrong_token",
        detail: "the token is not the one of token_sha256 at the upper server",
    };
    const NO_CERTIFICATE: Self = Self {
        code: "no_certificate",
        detail: "the upper server knows this one by a certificate: set cascade.certificate and key",
    };
    const WRONG_CERTIFICATE: Self = Self {
        code: "wrong_certificate",
        detail: "the certificate does not bear the tls_name that the upper server has for this id",
    };
}

/// What we say of ourselves to the upper server.
pub(super) fn headers(own: &str, token: Option<&Secret>) -> Vec<(&'static str, String)> {
    let mut headers = vec![(SERVER, own.to_owned())];
    if let Some(Secret::Password(token)) = token {
        headers.push((AUTHORIZATION.as_str(), format!("Bearer {token}")));
    }
    headers
}

/// Which lower server asks: everything that is configured of it must be proved.
pub(super) fn check<'a>(
    lowers: &'a [Lower],
    headers: &HeaderMap,
    certificate: Option<&CertificateDer<'_>>,
) -> Result<&'a str, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let name = text(SERVER).ok_or(Refusal::NO_NAME)?;
    let lower = lowers.iter().find(|lower| lower.id == name);
    let lower = lower.ok_or(Refusal::UNKNOWN)?;
    if let Some(Secret::Ha1Sha256(expected)) = &lower.token {
        let shown = text(AUTHORIZATION.as_str());
        let shown = shown.and_then(|shown| shown.strip_prefix("Bearer "));
        let shown = shown.ok_or(Refusal::NO_TOKEN)?;
        let digest = sha256(shown);
        if !bool::from(digest.as_bytes().ct_eq(expected.as_bytes())) {
            return Err(Refusal::WRONG_TOKEN);
        }
    }
    if let Some(expected) = &lower.tls_name {
        let certificate = certificate.ok_or(Refusal::NO_CERTIFICATE)?;
        if !tls::bears(certificate, expected) {
            return Err(Refusal::WRONG_CERTIFICATE);
        }
    }
    Ok(&lower.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn lower(id: &str, token: bool, tls_name: Option<&str>) -> Lower {
        let digest = sha256(TOKEN);
        Lower {
            id: id.to_owned(),
            token: token.then_some(Secret::Ha1Sha256(digest)),
            tls_name: tls_name.map(str::to_owned),
        }
    }

    #[test]
    fn everything_configured_must_be_proved() {
        let lowers = [
            lower("edge-01", true, None),
            lower("edge-02", false, Some("edge-02.example.com")),
        ];
        let try_with = |shown: &[(&'static str, &str)], expected: Result<&str, Refusal>| {
            let mut headers = HeaderMap::new();
            for (name, value) in shown {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(check(&lowers, &headers, None), expected, "{shown:?}");
        };
        let own = headers("edge-01", Some(&Secret::Password(TOKEN.to_owned())));
        let own: Vec<(&'static str, &str)> = own.iter().map(|(n, v)| (*n, v.as_str())).collect();
        try_with(&own, Ok("edge-01"));
        try_with(&[], Err(Refusal::NO_NAME));
        try_with(&[(SERVER, "edge-03")], Err(Refusal::UNKNOWN));
        try_with(&[(SERVER, "edge-01")], Err(Refusal::NO_TOKEN));
        for wrong in ["Bearer x", "Bearer ", "Bearer 0123456789abcdeg"] {
            let shown = [(SERVER, "edge-01"), ("authorization", wrong)];
            try_with(&shown, Err(Refusal::WRONG_TOKEN));
        }
        // Another's token is nobody's.
        let shown = [(SERVER, "edge-02"), own[1]];
        try_with(&shown, Err(Refusal::NO_CERTIFICATE));
    }
}
