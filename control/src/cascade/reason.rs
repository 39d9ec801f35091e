//! Why frames are dropped.

/// Why a frame went no further.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// It is not written as frames are.
    Malformed,
    /// We have passed it on before.
    Loop,
    /// It has passed too many servers.
    TooFar,
    /// Its last station is not who sent it.
    Forged,
    /// It came already.
    Duplicate,
    /// Sender, origin or receiver does not share the conference.
    NotMember,
    /// It does not belong in the conference, or nobody may say this but its home.
    ForeignTopic,
    /// The home's word by another way than ours to it.
    Detour,
    /// Older than what is known.
    Stale,
    /// Nobody waits for this answer any more.
    Late,
    /// More than is kept.
    Full,
    /// The neighbour is not there, or none leads on.
    NoRoute,
}

impl Reason {
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Loop,
        Self::TooFar,
        Self::Forged,
        Self::Duplicate,
        Self::NotMember,
        Self::ForeignTopic,
        Self::Detour,
        Self::Stale,
        Self::Late,
        Self::Full,
        Self::NoRoute,
    ];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Loop => "loop",
            Self::TooFar => "too_far",
            Self::Forged => "forged",
            Self::Duplicate => "duplicate",
            Self::NotMember => "not_member",
            Self::ForeignTopic => "foreign_topic",
            Self::Detour => "detour",
            Self::Stale => "stale",
            Self::Late => "late",
            Self::Full => "full",
            Self::NoRoute => "no_route",
        }
    }
}
