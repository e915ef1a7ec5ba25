//! Where clients reach a server: what a person opens after the start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses to which no program sends (RFC 5737, RFC 3849). The system knows which of its own addresses it would use
/// for them.
const ELSEWHERE: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];

/// Where clients reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The URL for a browser on this machine.
    pub url: String,
    /// The URL for other machines; `None` if the server listens on loopback only.
    pub network_url: Option<String>,
}

impl Welcome {
    /// `scheme` is `http` or `https`. `listeners` are the addresses for HTTP: there is at least one.
    pub(super) fn new(scheme: &str, listeners: &[SocketAddr]) -> Welcome {
        let url = |ip: IpAddr, port: u16| format!("{scheme}://{}/", SocketAddr::new(ip, port));
        let here = listeners.iter().find(|at| at.ip().is_loopback() || at.ip().is_unspecified());
        let here = here.or(listeners.first()).map(|at| url(on_this_machine(at.ip()), at.port()));
        let elsewhere = listeners.iter().find(|at| !at.ip().is_loopback()).and_then(|at| {
            let ip = if at.ip().is_unspecified() { own_address(at.ip()) } else { Some(at.ip()) };
            ip.map(|ip| url(ip, at.port()))
        });
        Welcome { url: here.unwrap_or_default(), network_url: elsewhere }
    }

    /// The lines that `longtail demo` prints. The last line says what to open. `is_terminal`: whether the output is a
    /// terminal. Only a terminal gets a QR code.
    #[cfg(feature = "demo")]
    pub fn demo_lines(&self, is_terminal: bool) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.network_url {
            Some(url) => {
                if is_terminal {
                    lines.extend(qr_code(url));
                }
                lines.push(format!("Other machines in this network open {url}"));
            }
            None => lines.push(
                "Only this machine can open the page. For a class: longtail demo --open --listen 0.0.0.0:8080 \
                 --weather-listen 0.0.0.0:9000"
                    .into(),
            ),
        }
        lines.push(format!("Open {} in a browser.", self.url));
        lines
    }

    /// The log line that says what to do after the start. `is_guarded`: whether clients need credentials.
    pub fn next_step(&self, is_guarded: bool) -> String {
        let url = &self.url;
        let also = self.network_url.as_ref().map(|url| format!("; other machines reach it at {url}"));
        let also = also.unwrap_or_default();
        if is_guarded {
            return format!("next: `longtail check {url}` tries every transport{also}");
        }
        format!("next: open {url} in a browser, and publish: curl -d hello '{url}publish?channel=demo'{also}")
    }
}

fn on_this_machine(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// This machine's address in its network; `None` without a network. A listener on `[::]` also accepts IPv4. This
/// function sends nothing.
fn own_address(listener: IpAddr) -> Option<IpAddr> {
    let usable = ELSEWHERE.iter().filter(|(from, _)| listener.is_ipv6() || !from.starts_with('['));
    usable.filter_map(|(from, to)| address_towards(from, to)).next()
}

fn address_towards(from: &str, to: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// The lines of a QR code of a URL, two rows of it in each line. Terminals are dark, so the light modules are drawn.
#[cfg(feature = "demo")]
fn qr_code(url: &str) -> Vec<String> {
    use qrcode::QrCode;
    use qrcode::render::unicode::Dense1x2;
    let Ok(code) = QrCode::new(url) else { return Vec::new() };
    let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    drawn.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(listeners: &[&str]) -> Welcome {
        Welcome::new("http", &listeners.iter().map(|at| at.parse().expect("an address")).collect::<Vec<_>>())
    }

    #[test]
    fn urls_are_those_of_a_browser() {
        for (listeners, url, network_url) in [
            (&["127.0.0.1:8080"][..], "http://127.0.0.1:8080/", None),
            (&["[::1]:80"], "http://[::1]:80/", None),
            (&["192.0.2.7:80"], "http://192.0.2.7:80/", Some("http://192.0.2.7:80/")),
            (&["192.0.2.7:80", "127.0.0.1:81"], "http://127.0.0.1:81/", Some("http://192.0.2.7:80/")),
        ] {
            let wanted = Welcome { url: url.into(), network_url: network_url.map(str::to_owned) };
            assert_eq!(welcome(listeners), wanted, "{listeners:?}");
        }
        for (all, here) in [("0.0.0.0:8080", "http://127.0.0.1:8080/"), ("[::]:8080", "http://[::1]:8080/")] {
            let Welcome { url, network_url } = welcome(&[all]);
            assert_eq!(url, here);
            // A machine without a network has no such address.
            let is_own = |url: &String| url.ends_with(":8080/") && !url.contains("0.0.0.0") && !url.contains("[::");
            assert!(network_url.as_ref().is_none_or(is_own), "{network_url:?}");
        }
    }

    #[test]
    fn the_next_step_fits_the_access() {
        let here = welcome(&["127.0.0.1:8080"]);
        assert!(here.next_step(false).ends_with("curl -d hello 'http://127.0.0.1:8080/publish?channel=demo'"));
        assert_eq!(here.next_step(true), "next: `longtail check http://127.0.0.1:8080/` tries every transport");
        let there = welcome(&["192.0.2.7:80"]).next_step(false);
        assert!(there.ends_with("; other machines reach it at http://192.0.2.7:80/"), "{there}");
    }

    #[cfg(feature = "demo")]
    #[test]
    fn only_a_terminal_shows_a_code() {
        let there = welcome(&["192.0.2.7:80"]);
        let lines = there.demo_lines(false);
        assert_eq!(
            lines,
            ["Other machines in this network open http://192.0.2.7:80/", "Open http://192.0.2.7:80/ in a browser."]
        );
        let drawn = there.demo_lines(true);
        let code = &drawn[..drawn.len() - 2];
        // A code has at least 21 rows, and two rows are one line.
        assert!(code.len() > 10 && code.iter().all(|line| line.chars().all(|c| " ▀▄█".contains(c))), "{drawn:#?}");
        let lines = welcome(&["127.0.0.1:8080"]).demo_lines(true);
        assert!(lines.len() == 2 && lines[0].starts_with("Only this machine"), "{lines:?}");
    }
}
