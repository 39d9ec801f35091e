//! What the lab's routers do to addresses and ports.

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    socket,
};

use super::{PortMap, plan};

/// A home router: every mapping gets a random port, nothing comes in uninvited (RFC 4787:
/// address-and-port-dependent mapping and filtering).
pub(super) const MASQUERADE: &str = "
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname \"wan\" masquerade fully-random
    }
}
table ip filter {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"home\" oifname \"wan\" accept
    }
}
";

/// The rules of a router that maps ports, there and back.
pub(super) fn port_map(map: &PortMap) -> String {
    let PortMap {
        to,
        sip_port,
        media_ports: (first, last),
        offset,
        ..
    } = map;
    let (router, outer) = (plan::ip(plan::PORT_MAP_LAN), plan::ip(plan::PORT_MAP_OUT));
    let source = if map.rewrite_source {
        format!("oifname \"lan\" ct status dnat snat to {router}")
    } else {
        String::new()
    };
    // Ports of both sides, one by one: a range would be mapped to any of another.
    let pairs = |outwards: bool| {
        let pair = |inside: u16| match outwards {
            true => format!("{inside} : {}", inside + offset),
            false => format!("{} : {inside}", inside + offset),
        };
        let ports = (*first..=*last).chain([*sip_port]);
        ports.map(pair).collect::<Vec<_>>().join(", ")
    };
    let (inwards, outwards) = (pairs(false), pairs(true));
    let back = format!(
        "oifname \"out\" ip saddr {to} udp sport {{ {sip_port}, {first}-{last} }} \
         snat to {outer} : udp sport map @outwards"
    );
    let (sip, low, high) = (sip_port + offset, first + offset, last + offset);
    format!(
        "
table ip nat {{
    map inwards {{ type inet_service : inet_service; elements = {{ {inwards} }}; }}
    map outwards {{ type inet_service : inet_service; elements = {{ {outwards} }}; }}
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        iifname \"out\" udp dport {{ {sip}, {low}-{high} }} dnat to {to} : udp dport map @inwards
        iifname \"out\" tcp dport {sip} dnat to {to} : {sip_port}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        {source}
        {back}
        oifname \"out\" masquerade
    }}
}}
table ip filter {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"lan\" oifname \"out\" accept
        iifname \"out\" ct status dnat accept
    }}
}}
"
    )
}

/// Deletes every entry of the connection tracking table of the namespace the thread is in: one
/// netlink message, IPCTNL_MSG_CT_DELETE without a tuple.
pub(super) fn flush_mappings() -> Result<()> {
    const DELETE: u16 = 1 << 8 | 2; // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
    const FLAGS: u16 = 1 | 4; // NLM_F_REQUEST, NLM_F_ACK
    const ERROR: u16 = 2; // NLMSG_ERROR, which is also the acknowledgement
    let mut request = Vec::with_capacity(20);
    request.extend(20u32.to_ne_bytes());
    request.extend(DELETE.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    request.extend([0; 8]); // sequence number, port id
    request.extend([2, 0, 0, 0]); // nfgenmsg: AF_INET, version 0, no resource id

    let protocol = SockProtocol::NetlinkNetFilter;
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    use std::os::fd::AsRawFd;
    let descriptor = netlink.as_raw_fd();
    bind(descriptor, &NetlinkAddr::new(0, 0))?;
    sendto(
        descriptor,
        &request,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 256];
    let length = recv(descriptor, &mut answer, MsgFlags::empty())?;
    let answer = answer.get(..length).context("netlink: cut")?;
    let kind = answer
        .get(4..6)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_ne_bytes);
    let code = answer
        .get(16..20)
        .and_then(|b| b.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (kind, code) => bail!("netlink: flush of mappings refused: kind {kind:?}, code {code:?}"),
    }
}
