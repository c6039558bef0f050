//! A small world: several hosts on one switch, each a network namespace.

use super::{Error, Links, Ns, Prefix, unshare_user_net};

/// Several namespaces joined by a bridge. Nothing of it touches the machine's own network; all of it goes when the last
/// descriptor and the last process inside are gone.
#[derive(Debug)]
pub struct World {
    switch: Ns,
    links: Links,
    bridge: u32,
}

impl World {
    /// Moves the calling process into a user and network namespace of its own (see [`unshare_user_net`]) and puts the switch
    /// there. For ordinary users; the process must have **one thread only**, and stays there.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the reason when the system allows no user namespaces; else as [`World::here`].
    pub fn new() -> Result<Self, Error> {
        unshare_user_net()?;
        Self::here()
    }

    /// Puts the switch into the network namespace that the calling thread is in; for those who have one to spare, such as
    /// root inside [`super::in_ns`] of a [`Ns::fresh`]. **Never** call it in the machine's own.
    ///
    /// # Errors
    /// [`Error::NoPermission`], [`Error::Netlink`]; among others when a bridge is there already.
    pub fn here() -> Result<Self, Error> {
        let mut links = Links::open()?;
        let bridge = links.add_bridge("switch")?;
        links.set_up(bridge)?;
        Ok(Self { switch: Ns::current()?, links, bridge })
    }

    /// The namespace with the switch; it has no address of its own.
    #[must_use]
    pub fn switch(&self) -> &Ns {
        &self.switch
    }

    /// A new host: a namespace with loopback up and `eth0` plugged into the switch. All hosts are neighbours if their
    /// addresses share a network. `name` is the name of its cable at the switch.
    ///
    /// # Errors
    /// [`Error::Name`] for a name of more than 15 bytes or with odd characters; else as [`Links::set_up`].
    pub fn host(&mut self, name: &str, addresses: &[Prefix]) -> Result<Ns, Error> {
        let host = Ns::fresh()?;
        let cable = self.links.add_cable(name, &host, "eth0")?;
        self.links.plug(cable, self.bridge)?;
        self.links.set_up(cable)?;
        let mut inside = Links::inside(&host)?;
        let loopback = inside.index_of("lo")?;
        inside.set_up(loopback)?;
        let eth0 = inside.index_of("eth0")?;
        for address in addresses {
            inside.add_address(eth0, *address)?;
        }
        inside.set_up(eth0)?;
        Ok(host)
    }
}
