//! What can be wrong with a message, and what is said about it.

use super::name::Name;

/// Why bytes are not a message we work with.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Malformed {
    Empty,
    /// The first line is not SIP at all: not worth an answer.
    NotSip,
    StartLine,
    /// SIP, but not 2.0 (RFC 3261 §21.5.7).
    Version,
    /// A line without a name or a colon, with a stray CR, or no blank line at the end.
    Header,
    TooLarge(Limit),
    /// Not a number, or more than there is.
    ContentLength,
    /// A mandatory header is absent (RFC 3261 §8.1.1).
    MissingHeader(Name),
    /// A header that must be single appears again (RFC 3261 §7.3.1).
    RepeatedHeader(Name),
    /// A header that must be understood cannot be.
    BadHeader(Name),
    /// `CSeq` names another method than the request line (RFC 3261 §8.1.1.5).
    MethodMismatch,
}

/// The limit a message broke.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Limit {
    Message,
    Header,
    Line,
    Lines,
    Vias,
    Routes,
}

impl Malformed {
    /// A name for a counter and a phrase for a response.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "Empty Message",
            Self::NotSip => "Not SIP",
            Self::StartLine => "Bad Start Line",
            Self::Version => "Version Not Supported",
            Self::Header => "Bad Header Line",
            Self::TooLarge(Limit::Message) => "Message Too Large",
            Self::TooLarge(Limit::Header) => "Header Too Large",
            Self::TooLarge(Limit::Line) => "Header Line Too Long",
            Self::TooLarge(Limit::Lines) => "Too Many Header Lines",
            Self::TooLarge(Limit::Vias) => "Too Many Via Values",
            Self::TooLarge(Limit::Routes) => "Too Many Route Values",
            Self::ContentLength => "Bad Content-Length",
            Self::MissingHeader(Name::Via) => "Missing Via",
            Self::MissingHeader(Name::From) => "Missing From",
            Self::MissingHeader(Name::To) => "Missing To",
            Self::MissingHeader(Name::CallId) => "Missing Call-ID",
            Self::MissingHeader(Name::CSeq) => "Missing CSeq",
            Self::MissingHeader(_) => "Missing Header",
            Self::RepeatedHeader(_) => "Repeated Header",
            Self::BadHeader(Name::Via) => "Bad Via",
            Self::BadHeader(Name::From) => "Bad From",
            Self::BadHeader(Name::To) => "Bad To",
            Self::BadHeader(Name::CallId) => "Bad Call-ID",
            Self::BadHeader(Name::CSeq) => "Bad CSeq",
            Self::BadHeader(Name::MaxForwards) => "Bad Max-Forwards",
            Self::BadHeader(_) => "Bad Header Value",
            Self::MethodMismatch => "CSeq Method Mismatch",
        }
    }

    /// What a request with this fault is answered; `None`: dropped and counted.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Empty | Self::NotSip => None,
            Self::Version => Some(505),
            Self::TooLarge(_) => Some(513),
            Self::StartLine
            | Self::Header
            | Self::ContentLength
            | Self::MissingHeader(_)
            | Self::RepeatedHeader(_)
            | Self::BadHeader(_)
            | Self::MethodMismatch => Some(400),
        }
    }
}
