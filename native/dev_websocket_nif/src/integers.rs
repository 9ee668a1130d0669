//! Integers beyond 64 bits, which rustler reads only by copying them out, however large they are.

use num_bigint::{BigInt, Sign};
use rustler::Term;

/// The longest magnitude of an integer that is written out, in bytes: its digits take time in its square.
const MAX_BYTES: usize = 1024;

// The external term format.
const VERSION: u8 = 131;
const SMALL_BIG: u8 = 110;
const LARGE_BIG: u8 = 111;

/// Writes out the large integers of one message.
#[derive(Default)]
pub(crate) struct LargeIntegers<'a> {
    /// The least and the greatest that are written out, made when first needed.
    bounds: Option<(Term<'a>, Term<'a>)>,
}

impl<'a> LargeIntegers<'a> {
    /// The digits of an integer, unless it is too large. Comparing integers of different sizes takes no time.
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

/// The greatest integer of [`MAX_BYTES`] with a sign, 1 for negative.
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
