//! What came of the demonstration: per leg, what arrived, by which path, and whether that is
//! good enough.

use std::fmt::Write as _;
use std::ops::Sub;

use serde_json::{Value, json};

use crate::rtp::Judgement;

/// Share of the media packets after the latch that must go through the kernel.
pub const XDP_SHARE_MIN: f64 = 0.99;

/// How far the tone that was heard may be from the one that was played.
const TONE_TOLERANCE_HZ: f64 = 10.0;

/// Packets by path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Packets {
    pub xdp: u64,
    pub user: u64,
}

impl Packets {
    /// Share of the kernel, 0..=1; none without packets.
    #[must_use]
    pub fn xdp_share(self) -> Option<f64> {
        let all = self.xdp + self.user;
        (all > 0).then(|| self.xdp as f64 / all as f64)
    }
}

impl Sub for Packets {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            xdp: self.xdp.saturating_sub(earlier.xdp),
            user: self.user.saturating_sub(earlier.user),
        }
    }
}

/// A stream at its receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// What left the sender, if it was seen.
    pub sent: Option<u64>,
    pub judgement: Judgement,
}

/// What one phone got in one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    pub call: String,
    pub phone: &'static str,
    pub setup_ms: u64,
    pub total: Packets,
    /// Since every stream of the call was in the kernel.
    pub after_latch: Packets,
    pub audio: Option<Heard>,
    pub video: Option<Heard>,
    pub tone_expected_hz: f64,
    pub tone_heard_hz: Option<f64>,
}

impl Leg {
    /// What is wrong with it, in words; nothing is nothing.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (kind, heard) in [("audio", &self.audio), ("video", &self.video)] {
            match heard {
                None => failures.push(format!("no {kind} arrived")),
                Some(h) if h.judgement.lost > 0 => {
                    failures.push(format!("{} packets of {kind} lost", h.judgement.lost));
                }
                Some(_) => {}
            }
        }
        match self.after_latch.xdp_share() {
            None => failures.push("no packets after the latch".to_owned()),
            Some(share) if share <= XDP_SHARE_MIN => {
                failures.push(format!("only {:.2} % through the kernel", share * 100.0));
            }
            Some(_) => {}
        }
        let expected = self.tone_expected_hz;
        match self.tone_heard_hz {
            None => failures.push(format!("no tone heard; {expected} Hz was played")),
            Some(heard) if (heard - expected).abs() > TONE_TOLERANCE_HZ => {
                failures.push(format!("heard {heard} Hz; {expected} Hz was played"));
            }
            Some(_) => {}
        }
        failures
    }

    fn json(&self) -> Value {
        let heard = |h: &Option<Heard>| {
            h.map(|Heard { sent, judgement: j }| {
                json!({
                    "sent": sent, "received": j.packets, "lost": j.lost,
                    "duplicates": j.duplicates, "reordered": j.reordered,
                    "jitter_us": j.jitter_us,
                })
            })
        };
        json!({
            "call": self.call,
            "phone": self.phone,
            "setup_ms": self.setup_ms,
            "packets_xdp": self.total.xdp,
            "packets_user": self.total.user,
            "xdp_share_after_latch": self.after_latch.xdp_share(),
            "lost": self.lost(),
            "jitter_us": self.jitter_us(),
            "audio": heard(&self.audio),
            "video": heard(&self.video),
            "tone_expected_hz": self.tone_expected_hz,
            "tone_heard_hz": self.tone_heard_hz,
            "failures": self.failures(),
        })
    }

    fn streams(&self) -> impl Iterator<Item = Judgement> {
        [self.audio, self.video]
            .into_iter()
            .flatten()
            .map(|h| h.judgement)
    }

    fn lost(&self) -> u64 {
        self.streams().map(|j| j.lost).sum()
    }

    /// Of the audio: a video frame's packets share a timestamp and are sent in a burst.
    fn jitter_us(&self) -> Option<u64> {
        self.audio.map(|h| h.judgement.jitter_us)
    }
}

/// All legs of all calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    legs: Vec<Leg>,
}

impl Summary {
    #[must_use]
    pub fn new(legs: Vec<Leg>) -> Self {
        Self { legs }
    }

    /// Whether every leg got its media through the kernel, whole.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.legs.is_empty() && self.legs.iter().all(|leg| leg.failures().is_empty())
    }

    /// For scripts.
    #[must_use]
    pub fn json(&self) -> Value {
        let legs: Vec<_> = self.legs.iter().map(Leg::json).collect();
        json!({ "ok": self.is_good(), "legs": legs })
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<8} {:<5} {:>8} {:>8} {:>6} {:>9} {:>5} {:>10} {:>7}\n",
            "CALL", "PHONE", "SETUP", "XDP", "USER", "KERNEL", "LOST", "JITTER", "TONE"
        );
        for leg in &self.legs {
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let share = leg
                .after_latch
                .xdp_share()
                .map(|s| format!("{:.2} %", s * 100.0));
            let jitter = leg.jitter_us().map(|us| format!("{us} us"));
            let tone = leg.tone_heard_hz.map(|hz| format!("{hz} Hz"));
            // Writing to a string does not fail.
            let _infallible = writeln!(
                table,
                "{:<8} {:<5} {:>5} ms {:>8} {:>6} {:>9} {:>5} {:>10} {:>7}",
                leg.call,
                leg.phone,
                leg.setup_ms,
                leg.total.xdp,
                leg.total.user,
                or_none(share),
                leg.lost(),
                or_none(jitter),
                or_none(tone),
            );
        }
        for leg in &self.legs {
            for failure in leg.failures() {
                table += &format!("FAILED {} at {}: {failure}\n", leg.call, leg.phone);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Leg {
        let judgement = Judgement {
            packets: 400,
            ..Judgement::default()
        };
        let heard = Some(Heard {
            sent: Some(402),
            judgement,
        });
        Leg {
            call: "c3→c1".into(),
            phone: "c1",
            setup_ms: 31,
            total: Packets { xdp: 790, user: 10 },
            after_latch: Packets { xdp: 700, user: 0 },
            audio: heard,
            video: heard,
            tone_expected_hz: 440.0,
            tone_heard_hz: Some(440.0),
        }
    }

    fn check(leg: Leg, failures: &[&str]) {
        assert_eq!(leg.failures(), failures);
        let summary = Summary::new(vec![good(), leg]);
        assert_eq!(summary.is_good(), failures.is_empty());
        assert_eq!(summary.json()["ok"], failures.is_empty());
        assert_eq!(summary.json()["legs"].as_array().unwrap().len(), 2);
        assert_eq!(summary.table().matches("FAILED").count(), failures.len());
    }

    #[test]
    fn a_leg_is_good_only_if_everything_is() {
        check(good(), &[]);
        check(
            Leg {
                audio: None,
                ..good()
            },
            &["no audio arrived"],
        );
        check(
            Leg {
                video: None,
                ..good()
            },
            &["no video arrived"],
        );
        let judgement = Judgement {
            lost: 2,
            ..Judgement::default()
        };
        let lossy = Some(Heard {
            sent: None,
            judgement,
        });
        check(
            Leg {
                video: lossy,
                ..good()
            },
            &["2 packets of video lost"],
        );
        let after_latch = Packets { xdp: 99, user: 1 };
        check(
            Leg {
                after_latch,
                ..good()
            },
            &["only 99.00 % through the kernel"],
        );
        let after_latch = Packets::default();
        check(
            Leg {
                after_latch,
                ..good()
            },
            &["no packets after the latch"],
        );
        check(
            Leg {
                tone_heard_hz: None,
                ..good()
            },
            &["no tone heard; 440 Hz was played"],
        );
        check(
            Leg {
                tone_heard_hz: Some(620.0),
                ..good()
            },
            &["heard 620 Hz; 440 Hz was played"],
        );
    }

    #[test]
    fn nothing_at_all_is_not_good() {
        assert!(!Summary::new(Vec::new()).is_good());
    }
}
