//! Literals: integers in four bases, and floats as bits or decimals.

use super::ast::Operand;

/// The value of a literal without its sign, or `None` where it is not one.
pub(super) fn literal(text: &str) -> Option<Operand> {
    let bytes = text.as_bytes();
    if bytes.len() > 2 && bytes[0] == b'0' {
        match bytes[1] {
            b'f' | b'F' if bytes.len() == 10 => {
                return u32::from_str_radix(&text[2..], 16).ok().map(Operand::F32);
            }
            b'd' | b'D' if bytes.len() == 18 => {
                return u64::from_str_radix(&text[2..], 16).ok().map(Operand::F64);
            }
            _ => {}
        }
    }
    if text.contains('.') {
        return text
            .parse::<f64>()
            .ok()
            .map(|value| Operand::F64(value.to_bits()));
    }
    integer(text).map(Operand::Integer)
}

/// An unsigned integer, with or without `U` behind it.
pub(super) fn integer(text: &str) -> Option<u64> {
    let text = text.strip_suffix(['U', 'u']).unwrap_or(text);
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0b" | "0B") => (&text[2..], 2),
        _ if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        _ => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// The literal with its sign changed.
pub(super) fn negate(value: Operand) -> Option<Operand> {
    Some(match value {
        Operand::Integer(value) => Operand::Integer(value.wrapping_neg()),
        Operand::F32(bits) => Operand::F32(bits ^ (1 << 31)),
        Operand::F64(bits) => Operand::F64(bits ^ (1 << 63)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_in_every_form() {
        for (text, value) in [
            ("0", Operand::Integer(0)),
            ("42", Operand::Integer(42)),
            ("0x1FU", Operand::Integer(31)),
            ("0b101", Operand::Integer(5)),
            ("017", Operand::Integer(15)),
            ("0f3F800000", Operand::F32(0x3f80_0000)),
            ("0d3FF0000000000000", Operand::F64(0x3ff0_0000_0000_0000)),
            ("1.5", Operand::F64(1.5f64.to_bits())),
            ("18446744073709551615", Operand::Integer(u64::MAX)),
        ] {
            assert_eq!(literal(text), Some(value), "{text}");
        }
        for text in [
            "08",
            "0x",
            "18446744073709551616",
            "1.2.3",
            "0f3F8",
            "12ab",
            "0x+1",
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
    }
}
