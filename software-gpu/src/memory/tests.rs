//! Device memory from the host's side.

use super::*;

fn memory() -> Memory {
    Memory::new(1 << 30, 1 << 20, true, 0)
}

#[test]
fn no_two_devices_have_an_address_in_common() {
    let mut all: Vec<_> = (0..MAX_DEVICES).map(addresses_of).collect();
    all.sort_by_key(|addresses| addresses.start);
    for pair in all.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{pair:x?}");
    }
    let (first, last) = (&all[0], &all[all.len() - 1]);
    assert!(first.start == DEVICE_ADDRESSES.start && last.end == DEVICE_ADDRESSES.end);
    let memory = Memory::new(1 << 30, 1 << 20, true, 3);
    assert!(addresses_of(3).contains(&memory.alloc(1).unwrap()));
}

#[test]
fn an_address_is_never_used_twice_and_both_free_errors_are_named() {
    let memory = memory();
    let first = memory.alloc(100).unwrap();
    assert_eq!(first % 512, 256, "aligned to 256 and no more");
    memory.free(first).unwrap();
    let again = memory.free(first).unwrap_err();
    assert!(
        again
            .to_string()
            .contains("freed allocation 1 of 100 bytes"),
        "{again}"
    );
    let second = memory.alloc(100).unwrap();
    assert_ne!(first, second);
    assert!(matches!(
        memory.free(second + 4),
        Err(MemoryError::BadFree { .. })
    ));
    let after = memory.read(first, &mut [0; 4]).unwrap_err();
    assert!(
        after.to_string().contains("byte 0 of freed allocation 1"),
        "{after}"
    );
}

#[test]
fn bytes_go_in_and_out_at_every_offset_and_length() {
    let memory = memory();
    let at = memory.alloc(64).unwrap();
    for offset in 0..16 {
        for length in 0..32u64 {
            let data: Vec<u8> = (0..length as u8).map(|i| i ^ 0x5a).collect();
            memory.fill(at, &[0xee], 64).unwrap();
            memory.write(at + offset, &data).unwrap();
            let mut out = vec![0; 64];
            memory.read(at, &mut out).unwrap();
            let (start, end) = (offset as usize, (offset + length) as usize);
            assert_eq!(&out[start..end], data);
            assert!(out[..start].iter().chain(&out[end..]).all(|&b| b == 0xee));
        }
    }
}

#[test]
fn the_last_byte_is_inside_and_the_next_is_not() {
    let memory = memory();
    let at = memory.alloc(10).unwrap();
    memory.write(at + 9, &[1]).unwrap();
    let error = memory.write(at + 9, &[1, 2]).unwrap_err();
    assert!(matches!(error, MemoryError::OutOfBounds { bytes: 2, .. }));
    assert!(memory.read(u64::MAX, &mut [0]).is_err());
    assert!(memory.fill(at, &[0; 4], u64::MAX).is_err());
    assert!(memory.fill(at + 1, &[0; 2], 1).is_err());
}

#[test]
fn fresh_memory_is_not_a_number_in_every_format() {
    let memory = memory();
    let at = memory.alloc(8).unwrap();
    let mut out = [0; 8];
    memory.read(at, &mut out).unwrap();
    assert!(f64::from_le_bytes(out).is_nan());
    assert!(f32::from_bits(u32::from_le_bytes([out[0], out[1], out[2], out[3]])).is_nan());
    assert!(half::f16::from_bits(u16::from_le_bytes([out[0], out[1]])).is_nan());
    assert!(half::bf16::from_bits(u16::from_le_bytes([out[0], out[1]])).is_nan());
}

#[test]
fn more_than_there_is_is_out_of_memory() {
    let memory = memory();
    assert_eq!(memory.alloc(2 << 20).unwrap_err().cuda_error(), 2);
    assert_eq!(memory.alloc(u64::MAX).unwrap_err().cuda_error(), 2);
    assert_eq!(memory.alloc(0), Err(MemoryError::Empty));
}
