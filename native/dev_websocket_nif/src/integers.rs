//! Integers beyond 64 bits. rustler reads them only by copying them in full.

use num_bigint::{BigInt, Sign};
use rustler::Term;

/// The maximum magnitude of a printed integer, in bytes, because the time for its digits grows with the square.
const MAX_BYTES: usize = 1024;

// Tags of the external term format.
const VERSION: u8 = 131;
const SMALL_BIG: u8 = 110;
const LARGE_BIG: u8 = 111;

/// Prints the large integers of one message.
#[derive(Default)]
pub(crate) struct LargeIntegers<'a> {
    /// The least and the greatest printed integer, made at first use.
    bounds: Option<(Term<'a>, Term<'a>)>,
}

impl<'a> LargeIntegers<'a> {
    /// Returns the digits of an integer, unless it is too large. Comparing integers of different sizes takes constant
    /// time.
    pub(crate) fn digits(&mut self, term: Term<'a>) -> Option<String> {
        let (least, greatest) = match self.bounds {
            Some(bounds) => bounds,
            None => *self.bounds.insert((bound(term, 1)?, bound(term, 0)?)),
        };
        if term < least || term > greatest {
            return None;
        }
        read(&term.to_binary()).map(|number| number.to_string())
    }
}

/// Makes the greatest integer of [`MAX_BYTES`]; the sign is 1 for negative.
fn bound<'a>(term: Term<'a>, sign: u8) -> Option<Term<'a>> {
    let mut external = vec![VERSION, LARGE_BIG];
    external.extend((MAX_BYTES as u32).to_be_bytes());
    external.push(sign);
    external.resize(external.len() + MAX_BYTES, 0xff);
    let (bound, _) = term.get_env().binary_to_term(&external)?;
    Some(bound)
}

fn read(external: &[u8]) -> Option<BigInt> {
    let (sign, magnitude) = match external {
        [VERSION, SMALL_BIG, _, sign, magnitude @ ..]
        | [VERSION, LARGE_BIG, _, _, _, _, sign, magnitude @ ..] => (sign, magnitude),
        _ => return None,
    };
    let sign = if *sign == 0 { Sign::Plus } else { Sign::Minus };
    Some(BigInt::from_bytes_le(sign, magnitude))
}
