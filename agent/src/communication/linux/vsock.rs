//! The address of a vsock listener, which rustix lacks. The two crates that have it bring libc and nix along for this one struct.

use std::ffi::c_uchar;
use std::mem::size_of;
use std::ptr;

use rustix::net::AddressFamily;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

/// `struct sockaddr_vm` of linux/vm_sockets.h: the size of a `struct sockaddr`, the rest zero.
#[repr(C)]
pub struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [c_uchar; 4],
}

const _: () = assert!(size_of::<VsockAddress>() == 16);

impl VsockAddress {
    /// The listener at `port` of context `cid`.
    pub const fn new(cid: u32, port: u32) -> Self {
        Self { family: AddressFamily::VSOCK.as_raw(), reserved: 0, port, cid, zero: [0; 4] }
    }
}

// SAFETY: the pointer is to `self`, whose layout is the kernel's, readable for its whole size while the closure runs.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f(ptr::from_ref(self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}
