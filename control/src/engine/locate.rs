//! Where a peer is that is known by name (RFC 3263): which questions to ask the domain name system,
//! and what follows from the answers. Asking is the shell's.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::config::{PeerAddress, PeerHost};
use crate::id::Transport;

/// Questions for one peer, however its records refer to each other.
const QUESTIONS_MAX: usize = 32;
/// Addresses of one peer.
pub const ADDRESSES_MAX: usize = 32;

/// What to ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    /// NAPTR records (RFC 3403) of a domain.
    Services(String),
    /// SRV records (RFC 2782).
    Servers(String),
    /// A and AAAA records.
    Addresses(String),
}

/// What was found; nothing is an answer, too.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    pub services: Vec<Service>,
    pub servers: Vec<Server>,
    pub addresses: Vec<IpAddr>,
}

/// A NAPTR record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    pub order: u16,
    pub preference: u16,
    /// `s` for SRV records.
    pub flags: String,
    /// `SIP+D2U` and the like.
    pub service: String,
    pub replacement: String,
}

/// An SRV record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

/// What a question is for.
#[derive(Clone, Debug)]
struct Step {
    question: Question,
    transport: Option<Transport>,
    port: u16,
    priority: u16,
    weight: u16,
}

/// A search under way: asks until there is nothing more to ask.
#[derive(Clone, Debug)]
pub struct Search {
    host: PeerHost,
    /// What we can send by.
    supported: Vec<Transport>,
    steps: VecDeque<Step>,
    asked: usize,
    found: Vec<PeerAddress>,
}

impl Search {
    /// `supported`: transports that we listen for; the others are not considered.
    #[must_use]
    pub fn new(host: &PeerHost, supported: &[Transport]) -> Self {
        let mut search = Self {
            host: host.clone(),
            supported: supported.to_vec(),
            steps: VecDeque::new(),
            asked: 0,
            found: Vec::new(),
        };
        let name = host.name.clone();
        match (host.port, host.transport) {
            // §4.2: whoever names a port has said all.
            (Some(_), _) => search.ask_address(),
            (None, Some(transport)) => search.ask_servers(&name, transport),
            (None, None) => search.ask(Step {
                question: Question::Services(name),
                transport: None,
                port: 0,
                priority: 0,
                weight: 1,
            }),
        }
        search
    }

    /// The next question; none: the search is over.
    #[must_use]
    pub fn question(&self) -> Option<&Question> {
        self.steps.front().map(|step| &step.question)
    }

    /// The answer to it.
    pub fn answer(&mut self, answer: Answer) {
        let Some(step) = self.steps.pop_front() else {
            return;
        };
        match step.question {
            Question::Services(name) => self.services(&name, answer.services),
            Question::Servers(_) => self.servers(step.transport, answer.servers),
            Question::Addresses(_) => self.addresses(&step, &answer.addresses),
        }
    }

    /// What was found, in no order: `priority` and `weight` say which comes first.
    #[must_use]
    pub fn found(self) -> Vec<PeerAddress> {
        self.found
    }

    /// §4.1: the service that they like best of those we can.
    fn services(&mut self, name: &str, mut services: Vec<Service>) {
        services.retain(|service| service.flags.eq_ignore_ascii_case("s"));
        services.sort_by_key(|service| (service.order, service.preference));
        let known = |service: &Service| {
            let transport = match service.service.to_ascii_uppercase().as_str() {
                "SIP+D2U" => Transport::Udp,
                "SIP+D2T" => Transport::Tcp,
                "SIPS+D2T" => Transport::Tls,
                _ => return None,
            };
            let known = self.supported.contains(&transport);
            known.then(|| (service.replacement.clone(), transport))
        };
        if let Some((replacement, transport)) = services.iter().find_map(known) {
            return self.ask(Step {
                question: Question::Servers(replacement),
                transport: Some(transport),
                port: 0,
                priority: 0,
                weight: 1,
            });
        }
        // TLS is for those who ask for it by `sips:`.
        for transport in [Transport::Udp, Transport::Tcp] {
            if self.supported.contains(&transport) {
                self.ask_servers(name, transport);
            }
        }
        if self.steps.is_empty() {
            self.ask_address();
        }
    }

    fn servers(&mut self, transport: Option<Transport>, servers: Vec<Server>) {
        // One that is the root alone says that there is no such service (RFC 2782).
        let declined = servers.iter().any(|server| is_root(&server.target));
        let servers: Vec<Server> = servers
            .into_iter()
            .filter(|s| !is_root(&s.target))
            .collect();
        if servers.is_empty() {
            if self.steps.is_empty() && !declined {
                self.ask_address();
            }
            return;
        }
        // The first transport that has servers is the one.
        self.steps.clear();
        for server in servers {
            let Server {
                priority,
                weight,
                port,
                target,
            } = server;
            self.ask(Step {
                question: Question::Addresses(target),
                transport,
                port,
                priority,
                weight,
            });
        }
    }

    fn addresses(&mut self, step: &Step, addresses: &[IpAddr]) {
        for ip in addresses {
            let address = SocketAddr::new(*ip, step.port);
            let known = self.found.iter().any(|found| found.address == address);
            if !known && self.found.len() < ADDRESSES_MAX && step.port != 0 {
                self.found.push(PeerAddress {
                    address,
                    transport: step.transport,
                    priority: step.priority,
                    weight: step.weight,
                });
            }
        }
    }

    fn ask_servers(&mut self, name: &str, transport: Transport) {
        let prefix = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
        };
        self.ask(Step {
            question: Question::Servers(format!("{prefix}.{name}")),
            transport: Some(transport),
            port: 0,
            priority: 0,
            weight: 1,
        });
    }

    /// The name's own addresses, at the port it was given or the transport's.
    fn ask_address(&mut self) {
        let PeerHost {
            name,
            port,
            transport,
        } = self.host.clone();
        let usual = transport.unwrap_or(Transport::Udp).port();
        self.ask(Step {
            question: Question::Addresses(name),
            transport,
            port: port.unwrap_or(usual),
            priority: 0,
            weight: 1,
        });
    }

    fn ask(&mut self, step: Step) {
        if self.asked < QUESTIONS_MAX {
            self.asked += 1;
            self.steps.push_back(step);
        }
    }
}

fn is_root(name: &str) -> bool {
    name.trim_end_matches('.').is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    fn host(port: Option<u16>, transport: Option<Transport>) -> PeerHost {
        PeerHost {
            name: "example.com".to_owned(),
            port,
            transport,
        }
    }

    /// A zone of the examples: questions in the order they are asked, and what is found.
    fn ask(host: &PeerHost, supported: &[Transport], zone: &[(&str, Answer)]) -> (String, String) {
        let mut search = Search::new(host, supported);
        let mut asked = Vec::new();
        while let Some(question) = search.question() {
            let name = match question {
                Question::Services(name) => format!("naptr {name}"),
                Question::Servers(name) => format!("srv {name}"),
                Question::Addresses(name) => format!("a {name}"),
            };
            let known = zone.iter().find(|(known, _)| *known == name);
            search.answer(known.map(|(_, a)| a.clone()).unwrap_or_default());
            asked.push(name);
        }
        let found: Vec<String> = search.found().iter().map(ToString::to_string).collect();
        (asked.join(", "), found.join(" "))
    }

    fn addresses(ips: &[&str]) -> Answer {
        Answer {
            addresses: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Answer::default()
        }
    }

    fn servers(servers: &[(u16, u16, u16, &str)]) -> Answer {
        let server = |(priority, weight, port, target): &(u16, u16, u16, &str)| Server {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        };
        Answer {
            servers: servers.iter().map(server).collect(),
            ..Answer::default()
        }
    }

    fn services(services: &[(u16, u16, &str, &str)]) -> Answer {
        let service =
            |(order, preference, service, replacement): &(u16, u16, &str, &str)| Service {
                order: *order,
                preference: *preference,
                flags: "s".to_owned(),
                service: (*service).to_owned(),
                replacement: (*replacement).to_owned(),
            };
        Answer {
            services: services.iter().map(service).collect(),
            ..Answer::default()
        }
    }

    #[test]
    fn a_port_says_all() {
        let zone = [("a example.com", addresses(&["10.0.0.20", "2001:db8::20"]))];
        let found =
            "sip:10.0.0.20:5070;priority=0;weight=1 sip:[2001:db8::20]:5070;priority=0;weight=1";
        let expected = ("a example.com".to_owned(), found.to_owned());
        assert_eq!(ask(&host(Some(5070), None), &ALL, &zone), expected);
    }

    /// The example of RFC 3263 §4.1 and §4.2.
    #[test]
    fn services_lead_to_servers_and_servers_to_addresses() {
        let zone = [
            (
                "naptr example.com",
                services(&[
                    (100, 50, "SIP+D2U", "_sip._udp.example.com"),
                    (50, 50, "SIPS+D2T", "_sips._tcp.example.com"),
                    (90, 50, "SIP+D2T", "_sip._tcp.example.com"),
                    (1, 1, "H323+D2U", "_h323._udp.example.com"),
                ]),
            ),
            (
                "srv _sip._tcp.example.com",
                servers(&[
                    (0, 1, 5060, "server1.example.com"),
                    (0, 2, 5062, "server2.example.com"),
                ]),
            ),
            ("a server1.example.com", addresses(&["10.0.0.1"])),
            ("a server2.example.com", addresses(&["10.0.0.2"])),
        ];
        let (asked, found) = ask(&host(None, None), &[Transport::Udp, Transport::Tcp], &zone);
        assert_eq!(
            asked,
            "naptr example.com, srv _sip._tcp.example.com, a server1.example.com, \
             a server2.example.com"
        );
        let tcp = ";transport=tcp;priority=0;weight=";
        assert_eq!(
            found,
            format!("sip:10.0.0.1:5060{tcp}1 sip:10.0.0.2:5062{tcp}2")
        );
    }

    #[test]
    fn without_services_servers_are_asked_for_by_transport() {
        let zone = [
            (
                "srv _sip._tcp.example.com",
                servers(&[(5, 0, 5080, "s.example.com")]),
            ),
            ("a s.example.com", addresses(&["10.0.0.5"])),
        ];
        let (asked, found) = ask(&host(None, None), &ALL, &zone);
        assert_eq!(
            asked,
            "naptr example.com, srv _sip._udp.example.com, srv _sip._tcp.example.com, \
             a s.example.com"
        );
        assert_eq!(found, "sip:10.0.0.5:5080;transport=tcp;priority=5;weight=0");
    }

    #[test]
    fn without_servers_the_name_itself_is_the_server() {
        let zone = [("a example.com", addresses(&["10.0.0.9"]))];
        let (_, found) = ask(&host(None, None), &ALL, &zone);
        assert_eq!(found, "sip:10.0.0.9:5060;priority=0;weight=1");
        let (asked, found) = ask(&host(None, Some(Transport::Tls)), &ALL, &zone);
        assert_eq!(asked, "srv _sips._tcp.example.com, a example.com");
        assert_eq!(found, "sip:10.0.0.9:5061;transport=tls;priority=0;weight=1");
    }

    #[test]
    fn a_service_may_be_declined() {
        let zone = [
            ("srv _sip._udp.example.com", servers(&[(0, 0, 0, ".")])),
            ("a example.com", addresses(&["10.0.0.9"])),
        ];
        let (_, found) = ask(&host(None, Some(Transport::Udp)), &ALL, &zone);
        assert_eq!(found, "");
    }

    #[test]
    fn questions_end() {
        let many: Vec<(u16, u16, u16, String)> = (0..100)
            .map(|n| (n, 1, 5060, format!("s{n}.example.com")))
            .collect();
        let many: Vec<(u16, u16, u16, &str)> = many
            .iter()
            .map(|(p, w, port, name)| (*p, *w, *port, name.as_str()))
            .collect();
        let zone = [("srv _sip._udp.example.com", servers(&many))];
        let (asked, _) = ask(&host(None, Some(Transport::Udp)), &ALL, &zone);
        assert_eq!(asked.split(", ").count(), QUESTIONS_MAX);
    }
}
