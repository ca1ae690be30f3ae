//! Which hosts and addresses data may be fetched from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

/// What the allow-list says.
#[derive(Debug)]
pub struct Allowed {
    hosts: Vec<Rule>,
    /// Addresses that are no public ones and may be reached all the same.
    networks: Vec<IpNet>,
}

#[derive(Debug)]
struct Rule {
    /// Without the `*.` of all its subdomains.
    name: String,
    is_wildcard: bool,
    /// Without one, the scheme's own.
    port: Option<u16>,
}

// === impl Allowed ===

impl Allowed {
    /// # Errors
    /// Names the entry that cannot be read.
    pub fn new(hosts: &[String], networks: &[String]) -> Result<Self, String> {
        let hosts = hosts.iter().map(|it| Rule::new(it));
        let networks = networks.iter().map(|it| {
            let network = it.parse();
            network.map_err(|_| format!("{it:?} is no network such as 10.0.0.0/8 or fd00::/8"))
        });
        Ok(Self {
            hosts: hosts.collect::<Result<_, _>>()?,
            networks: networks.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a URI's host and port are named.
    pub fn names(&self, uri: &Url) -> bool {
        let host = match uri.host() {
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return false,
        };
        self.hosts.iter().any(|rule| rule.is_of(&host, uri))
    }

    /// Whether an address that a name resolved to may be reached.
    pub fn reaches(&self, address: IpAddr) -> bool {
        // `::ffff:10.0.0.1` is 10.0.0.1.
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|it| it.contains(&address))
    }
}

// === impl Rule ===

impl Rule {
    fn new(entry: &str) -> Result<Self, String> {
        let wrong = || format!("{entry:?} is no HOST, *.DOMAIN or HOST:PORT");
        let (is_wildcard, rest) = match entry.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, entry),
        };
        // As a URI has it, so that case, IDNA and the forms of an address are the same.
        let uri = Url::parse(&format!("dl-inference://{rest}")).map_err(|_| wrong())?;
        let has_more = !matches!(uri.path(), "" | "/") || uri.query().is_some();
        if has_more || !uri.username().is_empty() || uri.password().is_some() || rest.contains('#')
        {
            return Err(wrong());
        }
        let written = uri.host_str().filter(|it| !it.is_empty());
        let host = Host::parse(written.ok_or_else(wrong)?).map_err(|_| wrong())?;
        let name = match host {
            Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            _ if is_wildcard => return Err(wrong()),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        if name.is_empty() || name.contains('*') {
            return Err(wrong());
        }
        Ok(Self {
            name,
            is_wildcard,
            port: uri.port(),
        })
    }

    fn is_of(&self, host: &str, uri: &Url) -> bool {
        let is_named = match host.strip_suffix(&self.name) {
            Some(rest) if self.is_wildcard => rest.len() > 1 && rest.ends_with('.'),
            rest => rest == Some(""),
        };
        let is_port = match self.port {
            Some(port) => uri.port_or_known_default() == Some(port),
            // The scheme's own is none here.
            None => uri.port().is_none(),
        };
        is_named && is_port
    }
}

/// Whether an address is one of the internet's, and no special one (IANA's registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_special = match first {
        0 | 10 | 127 => true,
        100 => (64..128).contains(&second),
        169 => second == 254,
        172 => (16..32).contains(&second),
        192 => matches!((second, third), (0, 0 | 2) | (88, 99) | (168, _)),
        198 => matches!((second, third), (18 | 19, _) | (51, 100)),
        203 => (second, third) == (0, 113),
        // Multicast, reserved, broadcast.
        _ => first >= 224,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Only 2000::/3 is given out; in it: Teredo, benchmarks, documentation, ORCHID, and 6to4, which holds an IPv4 address.
    let [first, second, ..] = address.segments();
    let is_special = match first {
        0x2001 => second < 0x200 || second == 0xdb8,
        0x2002 => true,
        0x3fff => second < 0x1000,
        _ => false,
    };
    (0x2000..0x4000).contains(&first) && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(hosts: &[&str]) -> Allowed {
        let hosts: Vec<String> = hosts.iter().map(|it| (*it).to_owned()).collect();
        Allowed::new(&hosts, &["10.1.0.0/16".to_owned(), "fd00::/8".to_owned()]).unwrap()
    }

    #[test]
    fn only_hosts_and_ports_of_the_list_are_named() {
        let list = allowed(&[
            "Images.Example.com",
            "*.cdn.test",
            "minio:9000",
            "tls:443",
            "10.1.2.3",
            "[::1]:81",
        ]);
        for (uri, expected) in [
            ("https://images.example.com/a.png", true),
            ("https://IMAGES.example.com./a.png", true),
            ("http://images.example.com:80/", true),
            ("http://images.example.com:8080/", false),
            ("https://images.example.com.evil.test/", false),
            ("https://evil-images.example.com/", false),
            ("https://example.com/", false),
            ("https://a.cdn.test/", true),
            ("https://a.b.cdn.test/", true),
            ("https://cdn.test/", false),
            ("https://.cdn.test/", false),
            ("https://acdn.test/", false),
            ("http://minio:9000/", true),
            ("http://minio/", false),
            ("https://tls/", true),
            ("http://tls/", false),
            ("http://10.1.2.3/", true),
            // The same address in other words.
            ("http://0x0a010203/", true),
            ("http://10.66051/", true),
            ("http://10.1.2.4/", false),
            ("http://[0:0::1]:81/", true),
            ("http://images.example.com@evil.test/", false),
        ] {
            let named = Url::parse(uri).is_ok_and(|uri| list.names(&uri));
            assert_eq!(named, expected, "{uri}");
        }
    }

    #[test]
    fn an_entry_that_is_no_host_is_an_error() {
        for entry in [
            "",
            "*",
            "*.",
            "a/b",
            "http://a",
            "a:b",
            "a:99999",
            "u@a",
            "*.1.2.3.4",
            "a b",
            "a*b",
            "a?b",
            "a#b",
        ] {
            let error = Allowed::new(&[entry.to_owned()], &[]).unwrap_err();
            assert!(error.contains(&format!("{entry:?}")), "{entry}: {error}");
        }
        let error = Allowed::new(&[], &["10.0.0.0/33".to_owned()]).unwrap_err();
        assert!(error.contains("10.0.0.0/33"), "{error}");
    }

    #[test]
    fn only_public_addresses_and_those_of_the_networks_are_reached() {
        let list = allowed(&[]);
        for (address, expected) in [
            ("8.8.8.8", true),
            ("100.63.0.1", true),
            ("172.32.0.1", true),
            ("192.0.1.1", true),
            ("2606:4700::1", true),
            ("10.1.9.9", true),
            ("::ffff:10.1.9.9", true),
            ("fd12::1", true),
            ("10.2.0.1", false),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("192.0.2.1", false),
            ("198.18.0.1", false),
            ("203.0.113.9", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::7f00:1", false),
            ("fe80::1", false),
            ("fc00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2001:0:1::1", false),
            ("2002:7f00:1::", false),
        ] {
            assert_eq!(
                list.reaches(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }
}
