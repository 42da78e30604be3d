//! The library exports every entry point under its own name, and finds it by that name.

#[expect(dead_code, reason = "these tests need no process of their own")]
mod child;

use std::ffi::{CStr, CString, c_void};

use libloading::{Library, Symbol};

macro_rules! names {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => { &[$(stringify!($name)),*] };
}

const HAD: &[&str] = software_gpu::for_each_supported!(names);
const NOT_HAD: &[&str] = software_gpu::for_each_unsupported!(names);

fn load() -> Library {
    // SAFETY: the library has no initialisers.
    unsafe { Library::new(child::library()) }.expect("the library loads")
}

#[test]
fn every_entry_point_is_exported_and_found() {
    type Find = unsafe extern "C" fn(*const u8, *mut *mut c_void, i32, u64, *mut u32) -> u32;
    let library = load();
    // SAFETY: that is its type.
    let find: Symbol<Find> = unsafe { library.get(b"cuGetProcAddress_v2") }.unwrap();
    assert!(HAD.len() > 100 && NOT_HAD.len() > 100);
    for name in HAD.iter().chain(NOT_HAD) {
        let (c_name, mut found, mut status) =
            (CString::new(*name).unwrap(), std::ptr::null_mut(), 9);
        // SAFETY: the name ends in a zero, the results are writable. No symbol is called.
        let code = unsafe {
            library
                .get::<*const c_void>(c_name.as_bytes_with_nul())
                .unwrap_or_else(|error| panic!("{name} is exported: {error}"));
            find(c_name.as_ptr().cast(), &mut found, 99999, 0, &mut status)
        };
        assert!(
            code == 0 && status == 0 && !found.is_null(),
            "{name} is found"
        );
    }
}

#[test]
fn the_words_of_a_failure_can_be_asked_for() {
    type Init = unsafe extern "C" fn(u32) -> u32;
    type Free = unsafe extern "C" fn(u64) -> u32;
    type Create = unsafe extern "C" fn(*mut usize, u32, i32) -> u32;
    type Last = unsafe extern "C" fn(*mut u8, usize) -> usize;
    let library = load();
    let mut buffer = [b'#'; 256];
    let mut context = 0;
    // SAFETY: those are their types, the results are writable, the buffers have the sizes told.
    unsafe {
        let init: Symbol<Init> = library.get(b"cuInit").unwrap();
        let create: Symbol<Create> = library.get(b"cuCtxCreate_v2").unwrap();
        let free: Symbol<Free> = library.get(b"cuMemFree_v2").unwrap();
        let last: Symbol<Last> = library.get(b"softwareGpuLastFault").unwrap();
        assert_eq!(last(buffer.as_mut_ptr(), buffer.len()), 0);
        assert_eq!((init(0), create(&mut context, 0, 0)), (0, 0));
        assert_eq!(free(0x1234), 1);
        let length = last(buffer.as_mut_ptr(), buffer.len());
        let words = CStr::from_bytes_until_nul(&buffer)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert!(words.contains("0x1234") && words.len() == length, "{words}");
        assert_eq!(last(buffer.as_mut_ptr(), 5), length);
        assert_eq!(&buffer[..5], [&words.as_bytes()[..4], b"\0"].concat());
        assert_eq!(last(std::ptr::null_mut(), 0), length);
    }
}
