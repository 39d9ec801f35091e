//! Header names: the ones somebody here acts upon (RFC 3261 §20 and its extensions), each with its
//! compact form where one is registered (RFC 3261 §7.3.3).

/// A header name, compact or not. Every name nobody acts upon is `Other`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Name {
    Via,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    Route,
    RecordRoute,
    MaxForwards,
    MaxBreadth,
    ContentLength,
    ContentType,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    Expires,
    MinExpires,
    Require,
    ProxyRequire,
    Supported,
    Unsupported,
    Allow,
    UserAgent,
    Server,
    Path,
    ServiceRoute,
    Reason,
    RetryAfter,
    Replaces,
    ReferTo,
    SessionExpires,
    MinSe,
    RSeq,
    RAck,
    Event,
    Subject,
    Date,
    Timestamp,
    ContentEncoding,
    ContentDisposition,
    PAssertedIdentity,
    PPreferredIdentity,
    RemotePartyId,
    Privacy,
    Warning,
    Other,
}

/// Name, spelling, compact form.
const NAMES: [(Name, &str, Option<u8>); 46] = [
    (Name::Via, "Via", Some(b'v')),
    (Name::From, "From", Some(b'f')),
    (Name::To, "To", Some(b't')),
    (Name::CallId, "Call-ID", Some(b'i')),
    (Name::CSeq, "CSeq", None),
    (Name::Contact, "Contact", Some(b'm')),
    (Name::Route, "Route", None),
    (Name::RecordRoute, "Record-Route", None),
    (Name::MaxForwards, "Max-Forwards", None),
    (Name::MaxBreadth, "Max-Breadth", None),
    (Name::ContentLength, "Content-Length", Some(b'l')),
    (Name::ContentType, "Content-Type", Some(b'c')),
    (Name::Authorization, "Authorization", None),
    (Name::ProxyAuthorization, "Proxy-Authorization", None),
    (Name::WwwAuthenticate, "WWW-Authenticate", None),
    (Name::ProxyAuthenticate, "Proxy-Authenticate", None),
    (Name::Expires, "Expires", None),
    (Name::MinExpires, "Min-Expires", None),
    (Name::Require, "Require", None),
    (Name::ProxyRequire, "Proxy-Require", None),
    (Name::Supported, "Supported", Some(b'k')),
    (Name::Unsupported, "Unsupported", None),
    (Name::Allow, "Allow", None),
    (Name::UserAgent, "User-Agent", None),
    (Name::Server, "Server", None),
    (Name::Path, "Path", None),
    (Name::ServiceRoute, "Service-Route", None),
    (Name::Reason, "Reason", None),
    (Name::RetryAfter, "Retry-After", None),
    (Name::Replaces, "Replaces", None),
    (Name::ReferTo, "Refer-To", Some(b'r')),
    (Name::SessionExpires, "Session-Expires", Some(b'x')),
    (Name::MinSe, "Min-SE", None),
    (Name::RSeq, "RSeq", None),
    (Name::RAck, "RAck", None),
    (Name::Event, "Event", Some(b'o')),
    (Name::Subject, "Subject", Some(b's')),
    (Name::Date, "Date", None),
    (Name::Timestamp, "Timestamp", None),
    (Name::ContentEncoding, "Content-Encoding", Some(b'e')),
    (Name::ContentDisposition, "Content-Disposition", None),
    (Name::PAssertedIdentity, "P-Asserted-Identity", None),
    (Name::PPreferredIdentity, "P-Preferred-Identity", None),
    (Name::RemotePartyId, "Remote-Party-ID", None),
    (Name::Privacy, "Privacy", None),
    (Name::Warning, "Warning", None),
];

impl Name {
    /// Reads a name in any case, long or compact.
    #[must_use]
    pub fn parse(name: &[u8]) -> Self {
        let found = if let [letter] = name {
            let letter = letter.to_ascii_lowercase();
            NAMES
                .iter()
                .find(|(_, _, compact)| *compact == Some(letter))
        } else {
            NAMES
                .iter()
                .find(|(_, long, _)| long.as_bytes().eq_ignore_ascii_case(name))
        };
        found.map_or(Self::Other, |&(known, _, _)| known)
    }

    /// The long form as the RFCs spell it; empty for `Other`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|(name, _, _)| *name == self)
            .map_or("", |&(_, long, _)| long)
    }

    /// Whether commas separate values of this header (RFC 3261 §7.3.1). Credentials and dates hold
    /// commas of their own.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Via
                | Self::Contact
                | Self::Route
                | Self::RecordRoute
                | Self::Path
                | Self::ServiceRoute
                | Self::PAssertedIdentity
                | Self::PPreferredIdentity
                | Self::RemotePartyId
                | Self::Allow
                | Self::Supported
                | Self::Unsupported
                | Self::Require
                | Self::ProxyRequire
                | Self::ContentEncoding
                | Self::Reason
                | Self::Warning
        )
    }

    /// Whether a second one makes the message ambiguous about who, where or how long.
    #[must_use]
    pub const fn is_single(self) -> bool {
        matches!(
            self,
            Self::From
                | Self::To
                | Self::CallId
                | Self::CSeq
                | Self::MaxForwards
                | Self::ContentLength
                | Self::ContentType
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        fn check(text: &str, expected: Name) {
            assert_eq!(Name::parse(text.as_bytes()), expected, "{text:?}");
        }
        check("Via", Name::Via);
        check("v", Name::Via);
        check("V", Name::Via);
        check("CALL-id", Name::CallId);
        check("i", Name::CallId);
        check("x", Name::SessionExpires);
        check("X-Header", Name::Other);
        check("", Name::Other);
        check("z", Name::Other);
    }

    #[test]
    fn spellings_are_read_back() {
        for (index, &(name, long, compact)) in NAMES.iter().enumerate() {
            assert_eq!(Name::parse(long.as_bytes()), name);
            assert_eq!(name.as_str(), long);
            assert!(compact.is_none_or(|letter| Name::parse(&[letter]) == name));
            let later = || NAMES.iter().skip(index + 1);
            assert!(later().all(|other| other.0 != name && other.1 != long));
            assert!(compact.is_none() || later().all(|other| other.2 != compact));
        }
    }
}
