//! The account of a stream that userspace keeps of what it forwards, as the kernel program does.

use common::media::Media;
use common::rtp::{Kind, Rtp};
use zerocopy::FromBytes;

use crate::shell::kernel::{Position, Stream};

/// Of the RTP that arrives at one address.
#[derive(Debug, Default)]
pub(crate) struct Account {
    media: Media,
    /// Which count this is; zero is none.
    count: u32,
    clock_hz: u32,
    /// The counts before this one.
    before: Stream,
    ssrc: Option<u32>,
}

impl Account {
    /// A packet that was forwarded; what is not RTP is not counted.
    pub(super) fn receive(&mut self, packet: &[u8], now_ns: u64) {
        let Ok((rtp, _)) = Rtp::ref_from_prefix(packet) else {
            return;
        };
        let bytes = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        let head = packet.first_chunk().copied().unwrap_or_default();
        if Kind::of(head, bytes) != Kind::Rtp {
            return;
        }
        self.count = self.count.max(1);
        self.media
            .receive(self.count, self.clock_hz, rtp, now_ns, || now_ns);
        self.ssrc = Some(rtp.ssrc());
    }

    /// Packets go another way from now on: those that do are not missing here.
    pub(crate) fn rest(&mut self) {
        if let Some(stream) = self.counted() {
            self.before = self.before.followed_by(stream);
            self.count = self.count.wrapping_add(1).max(1);
        }
    }

    /// The rate of the stream's clock; zero: not known, and no jitter is kept.
    pub(crate) fn set_clock(&mut self, hz: u32) {
        self.clock_hz = hz;
    }

    /// Everything; none before the first packet.
    pub(crate) fn stream(&self) -> Option<Stream> {
        match self.counted() {
            Some(stream) => Some(self.before.followed_by(stream)),
            None => self.ssrc.map(|_| self.before),
        }
    }

    /// Where the stream is; none while it goes another way.
    pub(crate) fn position(&self) -> Option<Position> {
        self.counted().map(|_| Position::of(&self.media))
    }

    fn counted(&self) -> Option<Stream> {
        let begun = self.count > 0 && self.media.generation == self.count;
        begun.then(|| Stream::of(&self.media, self.clock_hz))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 20 ms of a clock of 8,000 Hz, on time.
    fn rtp(ssrc: u32, sequence: u16) -> (Vec<u8>, u64) {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0; 160]);
        (packet, u64::from(sequence) * 20_000_000)
    }

    fn receive(account: &mut Account, ssrc: u32, sequences: &[u16]) {
        for sequence in sequences {
            let (packet, now) = rtp(ssrc, *sequence);
            account.receive(&packet, now);
        }
    }

    #[test]
    fn what_goes_another_way_is_not_missing() {
        let mut account = Account::default();
        account.set_clock(8000);
        assert_eq!(account.stream(), None);
        receive(&mut account, 7, &[1, 2, 5, 4]);
        let first = Stream {
            ssrc: 7,
            received: 4,
            lost: 1,
            reordered: 1,
            ..Stream::default()
        };
        let without_jitter = |stream: Option<Stream>| {
            let stream = stream.unwrap();
            Stream {
                jitter: None,
                ..stream
            }
        };
        assert_eq!(without_jitter(account.stream()), first);
        account.rest();
        assert_eq!(without_jitter(account.stream()), first);
        assert_eq!(account.position(), None);
        account.rest();
        // Two thousand went by the kernel.
        receive(&mut account, 7, &[2006, 2007, 2009]);
        let both = Stream {
            received: 7,
            lost: 2,
            ..first
        };
        assert_eq!(without_jitter(account.stream()), both);
        receive(&mut account, 8, &[1]);
        let other = Stream {
            ssrc: 8,
            ssrc_changes: 1,
            received: 8,
            ..both
        };
        assert_eq!(without_jitter(account.stream()), other);
    }

    #[test]
    fn only_rtp_counts() {
        let mut account = Account::default();
        account.receive(&[0x80, 200, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], 1); // RTCP
        account.receive(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1); // STUN
        account.receive(&[0x80, 0, 0], 1);
        assert_eq!(account.stream(), None);
        receive(&mut account, 7, &[1]);
        let jitter = account.stream().map(|stream| stream.jitter);
        assert_eq!(jitter, Some(None), "no clock, no jitter");
        account.set_clock(8000);
        receive(&mut account, 7, &[2]);
        let jitter = account.stream().map(|stream| stream.jitter);
        assert_eq!(jitter, Some(Some(Duration::ZERO)));
    }
}
