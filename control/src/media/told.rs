//! What a party was told last, and under which version: whenever it changes, the version in `o=`
//! grows (RFC 3264 §8), also if the change is ours and the sender of the SDP knows nothing of it.

use crate::sdp::lines::{Sdp, slice};

/// The SDP one party was told. Bodies are kept with the version their sender gave them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    agreed: Option<Vec<u8>>,
    /// An offer that is not answered yet.
    offered: Option<Vec<u8>>,
    /// An offer was withdrawn: the party was last told something that no longer holds.
    withdrawn: bool,
    /// The session's name in `o=`: another one counts for itself.
    session: Vec<u8>,
    sender: u64,
    /// Added to the sender's version, it is the one the party was told.
    shift: u64,
}

impl Told {
    /// The version to write into a body that is about to be told: `body` as its sender wrote it,
    /// `plain` with our addresses. None: the sender's own.
    #[must_use]
    pub fn version(&mut self, sdp: &Sdp, body: &[u8], plain: &[u8]) -> Option<u64> {
        let sender = sdp.version(body)?;
        let session = slice(body, sdp.session_at.as_ref()?);
        // Before anything is agreed, each party asked is another one.
        if self.agreed.is_none() || self.session != session {
            self.session = session.to_vec();
            self.shift = 0;
        } else if sender < self.sender {
            let last = self.sender.saturating_add(self.shift);
            self.shift = last.saturating_sub(sender).saturating_add(1);
        } else if sender == self.sender && !self.is(plain) {
            self.shift = self.shift.saturating_add(1);
        }
        self.sender = sender;
        self.present(sdp, body)
    }

    /// One more than the party knows, for an offer of our own.
    #[must_use]
    pub fn next_version(&mut self, sdp: &Sdp, plain: &[u8]) -> Option<u64> {
        self.shift = self.shift.saturating_add(1);
        self.present(sdp, plain)
    }

    pub fn offer(&mut self, plain: Vec<u8>) {
        self.offered = Some(plain);
        self.withdrawn = false;
    }

    pub fn answer(&mut self, plain: Vec<u8>) {
        self.agreed = Some(plain);
        self.withdrawn = false;
    }

    /// The party answered what it was offered.
    pub fn agree(&mut self) {
        if let Some(offered) = self.offered.take() {
            self.agreed = Some(offered);
        }
    }

    /// The party refused it, or nobody waits for its answer any more.
    pub fn withdraw(&mut self) {
        self.withdrawn |= self.offered.take().is_some();
    }

    /// What the party goes by, with the version of its sender.
    #[must_use]
    pub fn agreed(&self) -> Option<&[u8]> {
        self.agreed.as_deref()
    }

    #[must_use]
    pub fn shift(&self) -> u64 {
        self.shift
    }

    /// The party has been told more versions than we know of.
    pub fn set_shift(&mut self, shift: u64) {
        self.shift = shift;
    }

    fn is(&self, plain: &[u8]) -> bool {
        let last = self.offered.as_deref().or(self.agreed.as_deref());
        !self.withdrawn && last == Some(plain)
    }

    fn present(&self, sdp: &Sdp, body: &[u8]) -> Option<u64> {
        let sender = sdp.version(body)?;
        (self.shift != 0).then(|| sender.saturating_add(self.shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the sender says (version and address), what the party is told, and which version.
    #[test]
    fn versions() {
        check("as the sender counts", &["1 a 1", "2 a 2", "7 b 7"]);
        check(
            "ours grows with each change",
            &["1 a 1", "1 a 1", "1 b 2", "1 a 3", "2 a 4"],
        );
        check(
            "the sender goes back",
            &["9 a 9", "3 a 10", "3 a 10", "4 a 11"],
        );
        check("its repetition of an old one", &["1 a 1", "1 b 2", "1 b 2"]);
        check(
            "offers of our own",
            &["1 a 1", "+ b 2", "1 b 2", "+ b 3", "2 b 4"],
        );
        check(
            "as large as they get",
            &["18446744073709551615 a 18446744073709551615"],
        );
        check("not a number", &["x a x", "x b x", "+ c x"]);
        check("negative", &["-1 a -1", "-1 b -1"]);
        check("too long", &["18446744073709551616 a 18446744073709551616"]);
        check("refused, then as before", &["1 a 1", "! b 2", "1 a 3"]);
        check("refused, then the same", &["1 a 1", "! b 2", "1 b 3"]);

        fn check(name: &str, steps: &[&str]) {
            let mut told = Told::default();
            for step in steps {
                let words: Vec<_> = step.split(' ').collect();
                let [sender, address, expected] = words[..] else {
                    panic!("{step}")
                };
                let number = if sender == "!" { "1" } else { sender };
                let got = match sender {
                    "+" => {
                        let plain = told.agreed().unwrap().to_vec();
                        let sdp = Sdp::parse(&plain).unwrap();
                        let version = told.next_version(&sdp, &plain);
                        let own = slice(&plain, sdp.version_at.as_ref().unwrap());
                        let own = String::from_utf8(own.to_vec()).unwrap();
                        told.offer(body(&own, address));
                        version.map_or(own, |v| v.to_string())
                    }
                    _ => {
                        let body = body(number, address);
                        let sdp = Sdp::parse(&body).unwrap();
                        let version = told.version(&sdp, &body, &body);
                        told.offer(body);
                        version.map_or(number.to_owned(), |v| v.to_string())
                    }
                };
                if sender == "!" {
                    told.withdraw();
                } else {
                    told.agree();
                }
                assert_eq!(got, expected, "{name}: {step}");
            }
        }

        fn body(version: &str, address: &str) -> Vec<u8> {
            format!("v=0\r\no=- 44 {version} IN IP4 {address}\r\n").into_bytes()
        }
    }

    #[test]
    fn another_session_counts_for_itself() {
        let mut told = Told::default();
        let mut say = |origin: &str| {
            let body = format!("v=0\r\no={origin} IN IP4 a\r\n").into_bytes();
            let sdp = Sdp::parse(&body).unwrap();
            let version = told.version(&sdp, &body, &[body.as_slice(), b"x"].concat());
            told.answer(body);
            version
        };
        assert_eq!(say("- 1 5"), None);
        assert_eq!(say("- 1 5"), Some(6));
        assert_eq!(say("- 2 5"), None);
    }
}
