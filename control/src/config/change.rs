//! What differs between two configurations, and what each difference takes.

use super::{Config, Datapath, Network, Node, Sip};

/// One key that differs.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Change {
    /// As in the file: `sip.auth`; of a network with its name: `network.wan.advertise`.
    pub key: String,
    pub takes: Takes,
}

/// What a change takes. Later ones disturb more.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Takes {
    /// Nothing: the next message uses it.
    Hot,
    /// New calls use it, running ones keep what they have.
    Drain,
    /// The daemon must be started again.
    Restart,
}

/// Every key that differs, in the order of the file.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    // Taken apart by name, so that a new key must be thought about.
    let Config {
        node,
        sip,
        networks,
        datapath,
        origins: _,
    } = old;
    let mut changes = Changes::default();
    changes.node(node, &new.node);
    changes.sip(sip, &new.sip);
    changes.networks(networks, &new.networks);
    changes.datapath(datapath, &new.datapath);
    changes.0
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn compare<T: PartialEq>(&mut self, key: &str, old: &T, new: &T, takes: Takes) {
        let key = key.to_owned();
        self.0.extend((old != new).then_some(Change { key, takes }));
    }

    fn node(&mut self, old: &Node, new: &Node) {
        let Node {
            id,
            state_dir,
            socket,
            watch,
        } = old;
        self.compare("node.id", id, &new.id, Takes::Restart);
        self.compare("node.state_dir", state_dir, &new.state_dir, Takes::Restart);
        self.compare("node.socket", socket, &new.socket, Takes::Restart);
        self.compare("node.watch", watch, &new.watch, Takes::Hot);
    }

    fn sip(&mut self, old: &Sip, new: &Sip) {
        let Sip {
            domain,
            listen,
            auth,
            accounts,
            peers,
            expires_min,
            expires_max,
            address_grace,
        } = old;
        self.compare("sip.domain", domain, &new.domain, Takes::Restart);
        self.compare("sip.listen", listen, &new.listen, Takes::Restart);
        self.compare("sip.auth", auth, &new.auth, Takes::Hot);
        self.compare("sip.expires_min", expires_min, &new.expires_min, Takes::Hot);
        self.compare("sip.expires_max", expires_max, &new.expires_max, Takes::Hot);
        let grace = &new.address_grace;
        self.compare("sip.address_grace", address_grace, grace, Takes::Hot);
        self.compare("sip.account", accounts, &new.accounts, Takes::Hot);
        self.compare("sip.peer", peers, &new.peers, Takes::Hot);
    }

    /// Networks are known by their place in the file, so their list changes by a restart only.
    fn networks(&mut self, old: &[Network], new: &[Network]) {
        let names = |networks: &[Network]| -> Vec<String> {
            networks.iter().map(|n| n.name.clone()).collect()
        };
        if names(old) != names(new) {
            self.compare("network", &names(old), &names(new), Takes::Restart);
            return;
        }
        for (old, new) in old.iter().zip(new) {
            self.network(old, new);
        }
    }

    fn network(&mut self, old: &Network, new: &Network) {
        let Network {
            id: _,
            name,
            interface,
            address,
            advertise,
            advertise_port,
            advertise_media,
            peers,
            source_rewriting_gateways: gateways,
            media_ports,
            advertise_ports,
            nat,
            media,
            media_from,
            media_senders,
            ice,
            address_change,
            dscp,
        } = old;
        let key = |key: &str| format!("network.{name}.{key}");
        self.compare(&key("interface"), interface, &new.interface, Takes::Restart);
        self.compare(&key("address"), address, &new.address, Takes::Restart);
        let told = (advertise, advertise_port);
        let new_told = (&new.advertise, &new.advertise_port);
        self.compare(&key("advertise"), &told, &new_told, Takes::Hot);
        let media_told = &new.advertise_media;
        self.compare(
            &key("advertise_media"),
            advertise_media,
            media_told,
            Takes::Hot,
        );
        let ports_told = &new.advertise_ports;
        self.compare(
            &key("advertise_ports"),
            advertise_ports,
            ports_told,
            Takes::Hot,
        );
        self.compare(&key("nat"), nat, &new.nat, Takes::Hot);
        self.compare(
            &key("media_from"),
            media_from,
            &new.media_from,
            Takes::Drain,
        );
        let senders = &new.media_senders;
        self.compare(&key("media_senders"), media_senders, senders, Takes::Drain);
        self.compare(&key("ice"), ice, &new.ice, Takes::Drain);
        let on_change = &new.address_change;
        self.compare(
            &key("address_change"),
            address_change,
            on_change,
            Takes::Hot,
        );
        self.compare(&key("peers"), peers, &new.peers, Takes::Hot);
        let gateways_key = key("source_rewriting_gateways");
        self.compare(
            &gateways_key,
            gateways,
            &new.source_rewriting_gateways,
            Takes::Hot,
        );
        self.compare(
            &key("media_ports"),
            media_ports,
            &new.media_ports,
            Takes::Drain,
        );
        self.compare(&key("media"), media, &new.media, Takes::Drain);
        self.compare(&key("dscp"), dscp, &new.dscp, Takes::Drain);
    }

    fn datapath(&mut self, old: &Datapath, new: &Datapath) {
        let Datapath {
            mode,
            xdp,
            object,
            pin_dir,
            flows_max,
            media_timeout,
        } = old;
        self.compare("datapath.mode", mode, &new.mode, Takes::Restart);
        self.compare("datapath.xdp", xdp, &new.xdp, Takes::Restart);
        self.compare("datapath.object", object, &new.object, Takes::Restart);
        self.compare("datapath.pin_dir", pin_dir, &new.pin_dir, Takes::Restart);
        self.compare("datapath.flows", flows_max, &new.flows_max, Takes::Restart);
        let timeout = &new.media_timeout;
        self.compare(
            "datapath.media_timeout",
            media_timeout,
            timeout,
            Takes::Drain,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check as read;

    const TEXT: &str = "[sip]\ndomain = 'example.com'\nauth = 'digest'\n\
                        [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.0.0.3'\n\
                        media = 'sdp'\n[datapath]\nmode = 'auto'\n";

    fn config(text: &str) -> Config {
        read("t", text, None, &mut |_| {
            Err(std::io::ErrorKind::NotFound.into())
        })
        .unwrap()
    }

    #[track_caller]
    fn check(from: &str, to: &str, expected: &[(&str, Takes)]) {
        assert!(TEXT.contains(from), "{from}");
        let found = changes(&config(TEXT), &config(&TEXT.replace(from, to)));
        let found: Vec<_> = found.iter().map(|c| (c.key.as_str(), c.takes)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_key_says_what_it_takes() {
        check("", "", &[]);
        check("'digest'", "'none'", &[("sip.auth", Takes::Hot)]);
        check("media = 'sdp'", "", &[("network.lan.media", Takes::Drain)]);
        check("'auto'", "'xdp'", &[("datapath.mode", Takes::Restart)]);
        check("'lan'", "'office'", &[("network", Takes::Restart)]);
        // Wildcards are spelt out: another address is another listener.
        let expected = [
            ("sip.listen", Takes::Restart),
            ("network.lan.address", Takes::Restart),
            ("network.lan.advertise", Takes::Hot),
            ("network.lan.advertise_media", Takes::Hot),
        ];
        check("10.0.0.3", "10.0.0.4", &expected);
    }
}
