//! The interface's own business, on a smoltcp interface that carries nothing else: answers to ARP and
//! neighbour solicitations for our addresses, echoes, the lease (DHCP), routers' advertisements (SLAAC).
//!
//! Addresses are set here and read back from here, so that there is one owner of them.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

use crate::configuration::{Configuration, Subnet, Version4, Version6};
use crate::frame::ETHERNET;
use crate::output::Network;

/// The option of a lease that tells the wire's length, and the least that is believed.
const MTU_OPTION: u8 = 26;
const SHORTEST_MTU: usize = 576;

/// smoltcp's clock.
pub fn instant(now_ns: u64) -> Instant {
    Instant::from_micros((now_ns / 1000) as i64)
}

/// The wire as the interface sees it: one frame in, any number out.
struct Wire<'a> {
    frame: Option<&'a [u8]>,
    sent: &'a mut VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Incoming<'a>(&'a [u8]);

struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let frame = self.frame.take()?;
        Some((Incoming(frame), Outgoing(self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        // A bounded number per poll: nothing here has more to say at once.
        (self.sent.len() < 64).then_some(Outgoing(self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET;
        capabilities
    }
}

/// A client that asks for the wire's length besides addresses.
fn client() -> dhcpv4::Socket<'static> {
    let mut client = dhcpv4::Socket::new();
    client.set_parameter_request_list(&[1, 3, 6, MTU_OPTION]);
    // One per stack, and a stack lasts as long as the machine.
    client.set_receive_packet_buffer(Box::leak(vec![0; 1500].into_boxed_slice()));
    client
}

pub struct Control {
    interface: Interface,
    sockets: SocketSet<'static>,
    lease: Option<SocketHandle>,
    /// Addresses come from routers' advertisements.
    automatic: bool,
    mtu: usize,
    /// Name servers: the configured ones, and the lease's.
    configured: Vec<IpAddr>,
    leased: Vec<IpAddr>,
    /// Bytes in the longest packet, as the lease says.
    leased_mtu: Option<usize>,
    next_ns: Option<u64>,
    /// Frames to send.
    pub sent: VecDeque<Vec<u8>>,
}

impl Control {
    pub fn new(configuration: &Configuration, seed: u64, now_ns: u64) -> Self {
        let mtu = usize::from(configuration.mtu);
        let mut sent = VecDeque::new();
        let automatic = configuration.version_6 == Version6::Automatic;
        let hardware = HardwareAddress::Ethernet(EthernetAddress(configuration.hardware));
        let mut config = Config::new(hardware);
        config.random_seed = seed;
        config.slaac = automatic;
        let mut wire = Wire { frame: None, sent: &mut sent, mtu };
        let mut interface = Interface::new(config, &mut wire, instant(now_ns));
        let mut sockets = SocketSet::new(Vec::new());
        let mut lease = None;
        let mut addresses = Vec::new();
        match configuration.version_4 {
            Version4::Absent => {}
            Version4::Dynamic => lease = Some(sockets.add(client())),
            Version4::Static { address, prefix, gateway } => {
                addresses.push(IpCidr::new(address.into(), prefix));
                if let Some(gateway) = gateway {
                    let _ = interface.routes_mut().add_default_ipv4_route(gateway);
                }
            }
        }
        if configuration.version_6 != Version6::Absent {
            addresses.push(IpCidr::new(configuration.link_local().into(), 64));
        }
        if let Version6::Static { address, prefix, gateway } = configuration.version_6 {
            addresses.push(IpCidr::new(address.into(), prefix));
            if let Some(gateway) = gateway {
                let _ = interface.routes_mut().add_default_ipv6_route(gateway);
            }
        }
        interface.update_ip_addrs(|own| own.extend(addresses));
        let configured = configuration.name_servers.clone();
        let (leased, next_ns) = (Vec::new(), Some(now_ns));
        Self {
            interface,
            sockets,
            lease,
            automatic,
            mtu,
            configured,
            leased,
            leased_mtu: None,
            next_ns,
            sent,
        }
    }

    /// Gives the interface a frame.
    pub fn receive(&mut self, frame: &[u8], now_ns: u64) {
        let mut wire = Wire { frame: Some(frame), sent: &mut self.sent, mtu: self.mtu };
        self.interface.poll_ingress_single(instant(now_ns), &mut wire, &mut self.sockets);
        self.next_ns = Some(now_ns);
    }

    pub fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Does what is due.
    pub fn poll(&mut self, now_ns: u64) {
        let mut wire = Wire { frame: None, sent: &mut self.sent, mtu: self.mtu };
        let now = instant(now_ns);
        self.interface.poll_maintenance(now);
        self.interface.poll_egress(now, &mut wire, &mut self.sockets);
        self.take_lease();
        let next = self.interface.poll_at(now, &self.sockets);
        let next_ns = next.map(|next| (next.total_micros().max(0) as u64).saturating_mul(1000));
        // Never at once again: what is due now and was not done waits for something else.
        let later_ns = now_ns + 1_000_000_000;
        self.next_ns = next_ns.map(|next_ns| if next_ns <= now_ns { later_ns } else { next_ns });
        if self.automatic {
            // smoltcp takes no deadline for the earliest one where advertisements come in.
            let soon_ns = now_ns + 5_000_000_000;
            self.next_ns = Some(self.next_ns.map_or(soon_ns, |next_ns| next_ns.min(soon_ns)));
        }
    }

    /// Adopts what the server has said, or gives up what it has taken back.
    fn take_lease(&mut self) {
        let Some(event) = self.lease.and_then(|lease| self.sockets.get_mut::<dhcpv4::Socket>(lease).poll())
        else {
            return;
        };
        let (address, router, servers, mtu) = match event {
            dhcpv4::Event::Configured(lease) => {
                let mut options = lease.packet.iter().flat_map(|packet| packet.options());
                let mtu = options
                    .find(|option| option.kind == MTU_OPTION)
                    .and_then(|option| Some(usize::from(u16::from_be_bytes(option.data.try_into().ok()?))));
                (Some(lease.address), lease.router, lease.dns_servers, mtu)
            }
            dhcpv4::Event::Deconfigured => (None, None, Default::default(), None),
        };
        self.leased_mtu = mtu.filter(|mtu| (SHORTEST_MTU..self.mtu).contains(mtu));
        self.leased = servers.iter().map(|server| IpAddr::V4(*server)).collect();
        self.set_version_4(address);
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(router) = router {
            let _ = routes.add_default_ipv4_route(router);
        }
    }

    fn set_version_4(&mut self, address: Option<Ipv4Cidr>) {
        self.interface.update_ip_addrs(|own| {
            own.retain(|address| !matches!(address, IpCidr::Ipv4(_)));
            own.extend(address.map(IpCidr::Ipv4));
        });
    }

    /// What is set now.
    pub fn network(&self) -> Network {
        let subnet = |own: &IpCidr| Subnet { address: own.address().into(), prefix: own.prefix_len() };
        let addresses = self.interface.ip_addrs().iter().map(subnet).collect();
        let routes = self.interface.routes();
        let defaults = [routes.get_default_ipv4_route(), routes.get_default_ipv6_route()];
        let gateways = defaults.into_iter().flatten().map(|route| route.via_router.into()).collect();
        let name_servers = self.configured.iter().chain(&self.leased).copied().collect();
        Network { addresses, gateways, name_servers, mtu: self.leased_mtu.unwrap_or(self.mtu) }
    }
}
