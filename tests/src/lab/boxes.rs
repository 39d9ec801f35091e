//! NAT boxes of the lab: one, or a carrier's with a home's behind it.

use anyhow::{Result, bail};

use super::{Lab, Role, plan};
use crate::natbox::{Face, NatBox};
use crate::sim::nat::Behaviour;

impl Lab {
    /// Puts boxes with these behaviours, from the wan inwards, in front of c1 and c2.
    pub(super) fn raise_boxes(&mut self, behaviours: &[Behaviour]) -> Result<()> {
        match *behaviours {
            [] => Ok(()),
            [home] => {
                self.create(Role::Nat1)?;
                self.plug(Role::Nat1, "wan", "wan", &[])?;
                self.raise_home_box(plan::NAT1_WAN, None, home)
            }
            [carrier, home] => {
                self.raise_carrier(carrier)?;
                let gateway = Some(plan::CARRIER_HOME);
                self.raise_home_box(plan::NAT1_CARRIER, gateway, home)
            }
            _ => bail!("{} NAT boxes: there is room for two", behaviours.len()),
        }
    }

    fn raise_carrier(&mut self, behaviour: Behaviour) -> Result<()> {
        self.create(Role::Carrier)?;
        self.plug(Role::Carrier, "wan", "wan", &[])?;
        self.create(Role::Nat1)?;
        let (carrier, nat1) = (self.namespace(Role::Carrier)?, self.namespace(Role::Nat1)?);
        carrier.veth("home", nat1, "wan")?;
        let inside = face("home", plan::CARRIER_HOME, None)?;
        let outside = face("wan", plan::NAT1_WAN, None)?;
        let started = NatBox::start(carrier, &inside, &outside, behaviour)?;
        self.boxes.push(started);
        Ok(())
    }

    fn raise_home_box(
        &mut self,
        outside: &str,
        gateway: Option<&str>,
        behaviour: Behaviour,
    ) -> Result<()> {
        self.raise_home()?;
        let inside = face("home", plan::NAT1_HOME, None)?;
        let outside = face("wan", outside, gateway)?;
        let started = NatBox::start(self.namespace(Role::Nat1)?, &inside, &outside, behaviour)?;
        self.boxes.push(started);
        Ok(())
    }
}

fn face<'a>(interface: &'a str, prefix: &'a str, gateway: Option<&str>) -> Result<Face<'a>> {
    let gateway = gateway.map(|g| plan::ip(g).parse()).transpose()?;
    Ok(Face {
        interface,
        prefix,
        gateway,
    })
}
