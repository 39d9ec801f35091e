//! placeholder
use common::flow::Flow;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}
impl Totals {
    pub(crate) fn plus(self, o: Self) -> Self {
        Self {
            packets: self.packets + o.packets,
            bytes: self.bytes + o.bytes,
        }
    }
}
pub(crate) struct Attach<'a> {
    pub(crate) object: &'a [u8],
    pub(crate) pin_dir: &'a Path,
    pub(crate) interfaces: &'a [(String, u32)],
    pub(crate) native: bool,
    pub(crate) flows_max: u32,
    pub(crate) locals: &'a [IpAddr],
}
pub(crate) struct Kernel;
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("x")]
    X,
}
impl KernelError {
    pub(crate) fn reason(&self) -> &'static str {
        "x"
    }
}
impl Kernel {
    pub(crate) fn start(_a: Attach<'_>) -> Result<(Self, Vec<(SocketAddr, Flow)>), KernelError> {
        Err(KernelError::X)
    }
    pub(crate) fn install(&mut self, _at: SocketAddr, _f: Flow) -> Result<(), KernelError> {
        Ok(())
    }
    pub(crate) fn remove(&mut self, _at: SocketAddr) -> Result<(), KernelError> {
        Ok(())
    }
    pub(crate) fn stats(&mut self, _at: SocketAddr) -> Option<Totals> {
        None
    }
    pub(crate) fn reasons(&self) -> [u64; 16] {
        [0; 16]
    }
    pub(crate) fn interfaces(&self) -> Vec<String> {
        vec![]
    }
    pub(crate) fn receives(&self, _ip: IpAddr) -> bool {
        true
    }
    pub(crate) fn transmits(&self, _i: u32) -> bool {
        true
    }
}
pub fn detach(_p: &Path) -> anyhow::Result<usize> {
    Ok(0)
}
