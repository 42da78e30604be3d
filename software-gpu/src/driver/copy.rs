//! Copies between host and devices.

use super::capture::{self, submit};
use super::context::{self, Context, current};
use super::error::{Code, Outcome};
use super::ffi::{bytes, bytes_mut};
use super::memory::device_of;
use super::platform::Device;
// An address of these that no allocation has must not be taken for a host address and followed.
use crate::memory::DEVICE_ADDRESSES as DEVICE_WINDOW;

/// Bytes that a copy between two devices holds on the host at a time.
const CHUNK: u64 = 1 << 20;

/// One end of a copy.
#[derive(Clone, Copy)]
enum Place {
    Host(*mut u8),
    Device(&'static Device, u64),
}

impl Place {
    /// A place in a device's memory; where no device has the address, the context's own, which says
    /// what is wrong with it.
    fn device(context: &Context, address: u64) -> Place {
        Place::Device(device_of(address).unwrap_or(context.device()), address)
    }

    /// A place in host memory, which a device address is not.
    fn host(address: *mut u8) -> Outcome<Place> {
        match DEVICE_WINDOW.contains(&(address.addr() as u64)) {
            true => Err(Code::INVALID_VALUE),
            false => Ok(Place::Host(address)),
        }
    }

    /// A place by its address alone.
    fn unified(context: &Context, address: u64) -> Outcome<Place> {
        if device_of(address).is_some() || DEVICE_WINDOW.contains(&address) {
            return Ok(Place::device(context, address));
        }
        Place::host(std::ptr::with_exposed_provenance_mut(address as usize))
    }

    /// The place so many bytes further on.
    fn plus(self, offset: u64) -> Outcome<Place> {
        Ok(match self {
            Place::Host(address) => Place::Host(address.wrapping_add(offset as usize)),
            Place::Device(device, address) => {
                let address = address.checked_add(offset).ok_or(Code::INVALID_VALUE)?;
                Place::Device(device, address)
            }
        })
    }
}

/// Copies `len` bytes.
///
/// # Safety
/// A host place has `len` bytes that can be read, or written.
unsafe fn copy(to: Place, from: Place, len: usize) -> Outcome {
    if len == 0 {
        return Ok(());
    }
    match (to, from) {
        (Place::Device(device, to), Place::Host(from)) => {
            // SAFETY: the caller's promise.
            let data = unsafe { bytes(from, len) }?;
            Ok(device.run(|gpu| gpu.write(to, data))?)
        }
        (Place::Host(to), Place::Device(device, from)) => {
            // SAFETY: the caller's promise.
            let out = unsafe { bytes_mut(to, len) }?;
            Ok(device.run(|gpu| gpu.read(from, out))?)
        }
        (Place::Host(to), Place::Host(from)) => {
            if to.is_null() || from.is_null() {
                return Err(Code::INVALID_VALUE);
            }
            // SAFETY: the caller's promise; the two may overlap.
            unsafe { to.copy_from(from, len) };
            Ok(())
        }
        (Place::Device(there, to), Place::Device(here, from)) if there.ordinal == here.ordinal => {
            Ok(here.run(|gpu| gpu.copy(to, from, len as u64))?)
        }
        (Place::Device(there, to), Place::Device(here, from)) => {
            let mut chunk = vec![0; CHUNK.min(len as u64) as usize];
            for offset in (0..len as u64).step_by(CHUNK as usize) {
                let part = &mut chunk[..CHUNK.min(len as u64 - offset) as usize];
                here.run(|gpu| gpu.read(from + offset, part))?;
                there.run(|gpu| gpu.write(to + offset, part))?;
            }
            Ok(())
        }
    }
}

unsafe fn any(to: u64, from: u64, len: usize) -> Outcome {
    let context = current()?;
    let to = Place::unified(&context, to)?;
    let from = Place::unified(&context, from)?;
    // SAFETY: a host address is the caller's, by the driver API's contract.
    unsafe { copy(to, from, len) }
}

unsafe fn to_device(to: u64, from: *const u8, len: usize) -> Outcome {
    let context = current()?;
    let from = Place::host(from.cast_mut())?;
    // SAFETY: `from` has `len` bytes, by the driver API's contract; only read.
    unsafe { copy(Place::device(&context, to), from, len) }
}

unsafe fn to_host(to: *mut u8, from: u64, len: usize) -> Outcome {
    let context = current()?;
    let to = Place::host(to)?;
    // SAFETY: `to` has `len` bytes, by the driver API's contract.
    unsafe { copy(to, Place::device(&context, from), len) }
}

unsafe fn on_devices(to: u64, from: u64, len: usize) -> Outcome {
    let context = current()?;
    let (to, from) = (Place::device(&context, to), Place::device(&context, from));
    // SAFETY: no end is on the host.
    unsafe { copy(to, from, len) }
}

unsafe fn to_peer(
    to: u64,
    to_context: usize,
    from: u64,
    from_context: usize,
    len: usize,
) -> Outcome {
    current()?;
    let to_device = context::lookup(to_context)?.well()?.device();
    let from_device = context::lookup(from_context)?.well()?.device();
    let (to, from) = (
        Place::Device(to_device, to),
        Place::Device(from_device, from),
    );
    // SAFETY: no end is on the host.
    unsafe { copy(to, from, len) }
}

/// What every copy that its caller waits for comes after.
fn check_blocking() -> Outcome {
    capture::check_legacy(&*current()?)?;
    capture::refuse_unsafe()
}

/// Each copy twice: at once, and as work for a stream, which may be captured and come later.
macro_rules! copies {
    ($($name:ident $on_stream:ident = $body:ident($($arg:ident: $type:ty),*);)*) => { $(
        pub(super) unsafe fn $name($($arg: $type),*) -> Outcome {
            check_blocking()?;
            // SAFETY: passed on unchanged.
            unsafe { $body($($arg),*) }
        }

        pub(super) unsafe fn $on_stream($($arg: $type,)* stream: usize) -> Outcome {
            $(let $arg = Sent($arg);)*
            // SAFETY: passed on unchanged. A host address stays good until the stream's work is done, by
            // the driver API's contract, and for a graph until its last launch.
            submit(stream, move || unsafe { $body($($arg.get()),*) })
        }
    )* };
}

/// An argument on its way to whichever thread launches the graph.
struct Sent<T>(T);

// SAFETY: numbers, and addresses that nothing here follows but by the contract of the copy.
unsafe impl<T> Send for Sent<T> {}
// SAFETY: as for Send; it is only read.
unsafe impl<T> Sync for Sent<T> {}

impl<T: Copy> Sent<T> {
    fn get(&self) -> T {
        self.0
    }
}

copies! {
    cuMemcpy cuMemcpyAsync = any(to: u64, from: u64, len: usize);
    cuMemcpyHtoD_v2 cuMemcpyHtoDAsync_v2 = to_device(to: u64, from: *const u8, len: usize);
    cuMemcpyDtoH_v2 cuMemcpyDtoHAsync_v2 = to_host(to: *mut u8, from: u64, len: usize);
    cuMemcpyDtoD_v2 cuMemcpyDtoDAsync_v2 = on_devices(to: u64, from: u64, len: usize);
    cuMemcpyPeer cuMemcpyPeerAsync =
        to_peer(to: u64, to_context: usize, from: u64, from_context: usize, len: usize);
}

/// `CUDA_MEMCPY2D`'s half for one end.
#[repr(C)]
#[derive(Clone, Copy)]
struct End2d {
    x_bytes: usize,
    y: usize,
    memory_type: u32,
    host: *mut u8,
    device: u64,
    array: usize,
    pitch: usize,
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Copy2d {
    from: End2d,
    to: End2d,
    width_bytes: usize,
    height: usize,
}

const _: () = assert!(size_of::<Copy2d>() == 128, "CUDA_MEMCPY2D has 128 bytes");

impl End2d {
    fn place(&self, context: &Context) -> Outcome<Place> {
        let place = match self.memory_type {
            1 => Place::host(self.host)?,
            2 => Place::device(context, self.device),
            4 => Place::unified(context, self.device)?,
            3 => return Err(Code::NOT_SUPPORTED),
            _ => return Err(Code::INVALID_VALUE),
        };
        place.plus(self.offset(self.y)?)?.plus(self.x_bytes as u64)
    }

    /// Bytes to the start of a row.
    fn offset(&self, row: usize) -> Outcome<u64> {
        let offset = (row as u64).checked_mul(self.pitch as u64);
        offset.ok_or(Code::INVALID_VALUE)
    }

    fn holds(&self, width_bytes: usize) -> bool {
        let end = self.x_bytes.checked_add(width_bytes);
        end.is_some_and(|end| end <= self.pitch)
    }
}

/// The description that a copy of rows comes with.
///
/// # Safety
/// `copy_2d` is null or a `CUDA_MEMCPY2D`.
unsafe fn described(copy_2d: *const u8) -> Outcome<Copy2d> {
    if copy_2d.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: not null, and so a `CUDA_MEMCPY2D` by the caller's promise.
    Ok(unsafe { copy_2d.cast::<Copy2d>().read_unaligned() })
}

pub(super) unsafe fn cuMemcpy2D_v2(copy_2d: *const u8) -> Outcome {
    check_blocking()?;
    // SAFETY: passed on unchanged.
    unsafe { rows(described(copy_2d)?) }
}

pub(super) unsafe fn cuMemcpy2DAsync_v2(copy_2d: *const u8, stream: usize) -> Outcome {
    // SAFETY: passed on unchanged.
    let what = Sent(unsafe { described(copy_2d) }?);
    // SAFETY: as for the other copies on a stream.
    submit(stream, move || unsafe { rows(what.get()) })
}

/// # Safety
/// An end on the host has the rows that are described.
unsafe fn rows(what: Copy2d) -> Outcome {
    let context = current()?;
    let Copy2d {
        mut from,
        mut to,
        width_bytes,
        height,
    } = what;
    // A pitch of 0 stands for rows without gaps.
    for end in [&mut from, &mut to] {
        if end.pitch == 0 {
            end.pitch = end.x_bytes.saturating_add(width_bytes);
        }
    }
    if height > 1 && !(from.holds(width_bytes) && to.holds(width_bytes)) {
        return Err(Code::INVALID_VALUE);
    }
    let (from_start, to_start) = (from.place(&context)?, to.place(&context)?);
    for row in 0..height {
        let (to, from) = (
            to_start.plus(to.offset(row)?)?,
            from_start.plus(from.offset(row)?)?,
        );
        // SAFETY: a host end has its rows, by the driver API's contract.
        unsafe { copy(to, from, width_bytes) }?;
    }
    Ok(())
}

pub(super) unsafe fn cuMemcpy2DUnaligned_v2(copy_2d: *const u8) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuMemcpy2D_v2(copy_2d) }
}
