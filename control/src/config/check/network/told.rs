//! What peers are told: `advertise`, `advertise_media` and `advertise_ports`, the addresses and
//! ports of the router that is mapped to us.

use std::net::IpAddr;

use super::{Draft, parse, same_family, value};
use crate::config::PortRange;
use crate::config::problem::{At, Problems, Span};

const MEDIA: &str = "network.advertise_media";
const PORTS: &str = "network.advertise_ports";

/// As far as it could be understood; what is not written is what we have ourselves.
#[derive(Debug)]
pub(super) struct Told {
    advertise: Option<At<(IpAddr, Option<u16>)>>,
    media: Option<At<IpAddr>>,
    pub(super) ports: Option<At<PortRange>>,
}

/// Where media is awaited, as peers are told, and the key that says so.
pub(super) struct MediaTold {
    pub(super) address: IpAddr,
    pub(super) ports: PortRange,
    pub(super) key: &'static str,
    pub(super) span: Span,
}

impl Told {
    pub(super) fn read(
        advertise: Option<&At<String>>,
        media: Option<&At<String>>,
        ports: Option<&At<String>>,
        (address, own): (Option<IpAddr>, Option<&At<PortRange>>),
        problems: &mut Problems<'_>,
    ) -> Self {
        let advertise = advertise.and_then(|text| {
            const KEY: &str = "network.advertise";
            let value = parse(text, KEY, value::advertise, problems)?;
            let span = text.span.clone();
            same_family(&span, KEY, value.0, address, problems).then_some(At { value, span })
        });
        let media = media.and_then(|text| {
            let value = parse(text, MEDIA, value::host, problems)?;
            let span = text.span.clone();
            same_family(&span, MEDIA, value, address, problems).then_some(At { value, span })
        });
        let ports = ports.and_then(|text| {
            let value = parse(text, PORTS, value::ports, problems)?;
            let span = text.span.clone();
            same_size(own?.value, value, &span, problems).then_some(At { value, span })
        });
        Self {
            advertise,
            media,
            ports,
        }
    }

    pub(super) fn sip(&self) -> Option<IpAddr> {
        self.advertise.as_ref().map(|told| told.value.0)
    }

    pub(super) fn sip_port(&self) -> Option<u16> {
        self.advertise.as_ref().and_then(|told| told.value.1)
    }

    pub(super) fn media(&self) -> Option<IpAddr> {
        let media = self.media.as_ref().map(|media| media.value);
        media.or(self.sip())
    }
}

/// The router moves a range as a whole: the offset of its first port is that of all.
fn same_size(own: PortRange, told: PortRange, span: &Span, problems: &mut Problems<'_>) -> bool {
    let length = |range: PortRange| range.last.saturating_sub(range.first);
    let same = length(own) == length(told);
    if !same {
        let count = |range| u32::from(length(range)) + 1;
        let message = format!(
            "{}-{} are {} ports, and media_ports, {}-{}, are {}",
            told.first,
            told.last,
            count(told),
            own.first,
            own.last,
            count(own),
        );
        let help = match told.first.checked_add(length(own)) {
            Some(last) => format!("write \"{}-{last}\", or change media_ports", told.first),
            None => format!("begin at {} or below", u16::MAX - length(own)),
        };
        problems.add(span, PORTS, message, help);
    }
    same
}

impl Draft {
    pub(super) fn media_told(&self) -> Option<MediaTold> {
        let own = self.ports.as_ref()?;
        let (key, span) = match (&self.told.ports, &self.told.media, &self.told.advertise) {
            (Some(ports), _, _) => (PORTS, &ports.span),
            (None, Some(media), _) => (MEDIA, &media.span),
            (None, None, Some(advertise)) => ("network.advertise", &advertise.span),
            (None, None, None) => ("network.media_ports", &own.span),
        };
        Some(MediaTold {
            address: self.told.media().or(self.address)?,
            ports: self.told.ports.as_ref().map_or(own.value, |p| p.value),
            key,
            span: span.clone(),
        })
    }

    /// The SIP port peers are told, for a listener at `own`, may not be one of the media ports they
    /// are told.
    pub(in crate::config::check) fn sip_port_told(&self, own: u16, problems: &mut Problems<'_>) {
        let Some(media) = self.media_told() else {
            return;
        };
        let address = self.told.sip().or(self.address);
        let port = self.told.sip_port().unwrap_or(own);
        let (first, last) = (media.ports.first, media.ports.last);
        if address == Some(media.address) && (first..=last).contains(&port) {
            let message = format!("the advertised media ports {first}-{last} hold SIP's {port}");
            let help = "the router maps a port to one of them: move `advertise_ports`, or the \
                        port in `advertise`";
            problems.add(&media.span, media.key, message, help);
        }
    }
}
