//! Reads the coefficients of blocks out of Huffman codes, and passes over those that nobody needs two at a time.

use super::frame::HuffmanSpec;

/// How many bits one look into a table takes.
const LOOK: u32 = 11;

/// How many looks there are.
const LOOKS: usize = 1 << LOOK;

/// The bits of a scan, without the zeros that are stuffed behind bytes of ones.
///
/// A buffer of 64 bits is filled by one load of 8 bytes at a time; behind the end come zeros.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next byte to be loaded.
    position: usize,
    buffer: u64,
    /// How many bits of the buffer count.
    count: u32,
}

/// Zeros that must follow the bits of a scan.
pub(super) const PADDING: usize = 16;

impl<'a> BitReader<'a> {
    /// Starts at the first of `bytes`, of which the last [`PADDING`] are zeros that do not count.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, buffer: 0, count: 0 }
    }

    /// Makes sure of at least 56 bits.
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(next) = self.bytes.get(self.position..self.position + 8) {
            let next = u64::from_be_bytes(next.try_into().expect("eight bytes were taken"));
            self.buffer |= next >> self.count;
            self.position += ((63 - self.count) >> 3) as usize;
            self.count |= 56;
        } else {
            // Behind the end: zeros, which `is_within` tells.
            self.position += ((63 - self.count) >> 3) as usize;
            self.count |= 56;
        }
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// The byte that the next bit lies in; the end for bits that are not there.
    pub(super) fn position(&self) -> usize {
        (self.position - self.count as usize / 8).min(self.bytes.len() - PADDING)
    }

    /// Whether no bit was taken that is not there, and less than a byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        let taken = self.position * 8 - self.count as usize;
        let there = (self.bytes.len() - PADDING) * 8;
        taken <= there && there - taken < 8
    }
}

/// A magnitude of `bits` bits as the standard codes it (ITU-T T.81, F.2.2.1): a leading 0 means negative.
#[inline(always)]
fn extend(value: i32, bits: u32) -> i32 {
    if value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value }
}

/// One look into a table: what the next bits begin with. Packed so that a look is one load.
///
/// | bits | of a decoding table | of a passing table |
/// | --- | --- | --- |
/// | 0–7 | bits to skip | bits to skip |
/// | 8–15 | coefficients passed, this one included; [`END`] for the end of the block | the same, of all codes together |
/// | 16–31 | the value, or [`UNKNOWN`] | 1 where the block ends behind them |
type Entry = u32;

/// No valid value: the magnitude's bits lie beyond the look.
const UNKNOWN: i16 = i16::MIN;

/// More than any block has.
const END: u32 = 64;

const fn entry(skip: u32, passed: u32, value: i16) -> Entry {
    skip | passed << 8 | (value as u16 as u32) << 16
}

/// A code: its length and its symbol. No code has the length 0.
#[derive(Clone, Copy, Default)]
struct Code {
    length: u8,
    symbol: u8,
}

impl Code {
    /// How many coefficients are 0 before this one.
    fn run(self) -> u32 {
        u32::from(self.symbol >> 4)
    }

    /// How many bits the magnitude has.
    fn bits(self) -> u32 {
        u32::from(self.symbol & 15)
    }

    /// The code with its magnitude.
    fn total(self) -> u32 {
        u32::from(self.length) + self.bits()
    }
}

/// A Huffman table made for decoding.
pub(super) struct Table {
    first_coefficients: bool,
    /// The code at the beginning of the next bits; 0 where it is longer than a look or is no code.
    decode: Box<[Entry; LOOKS]>,
    /// As many codes as a look holds, for coefficients that nobody needs; 0 for first coefficients.
    pass: Box<[Entry; LOOKS]>,
    /// By length: the first code beyond those of this length, aligned to 16 bits, and where its symbols are.
    limits: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// Makes it; none where the counts are no prefix code.
    pub(super) fn new(spec: &HuffmanSpec, first_coefficients: bool) -> Option<Self> {
        let mut codes = vec![Code::default(); LOOKS];
        let (mut limits, mut offsets) = ([0; 17], [0; 17]);
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u8 {
            let count = u32::from(spec.counts[usize::from(length) - 1]);
            offsets[usize::from(length)] = index as i32 - code as i32;
            if u32::from(length) <= LOOK {
                let width = 1 << (LOOK - u32::from(length));
                for (i, symbol) in (code..code + count).zip(&spec.symbols[index..]) {
                    let start = i as usize * width;
                    codes.get_mut(start..start + width)?.fill(Code { length, symbol: *symbol });
                }
            }
            code += count;
            index += count as usize;
            if code > 1 << length {
                return None;
            }
            limits[usize::from(length)] = code << (16 - length);
            code <<= 1;
        }
        let mut decode = Box::new([0; LOOKS]);
        for ((look, code), entry) in (0..).zip(&codes).zip(decode.iter_mut()).filter(|((_, code), _)| code.length > 0) {
            *entry = Self::single(*code, look, first_coefficients);
        }
        let mut pass = Box::new([0; LOOKS]);
        if !first_coefficients {
            Self::passing(&codes, &mut pass);
        }
        Some(Self { first_coefficients, decode, pass, limits, offsets, symbols: spec.symbols.clone() })
    }

    /// The entry of one code, with its value where the look holds all of its bits.
    fn single(code: Code, look: u32, first_coefficient: bool) -> Entry {
        let (run, bits, total) = (code.run(), code.bits(), code.total());
        let passed = match (first_coefficient, run, bits) {
            (true, ..) => 1,
            (false, 15, 0) => 16,
            (false, _, 0) => END,
            (false, run, _) => run + 1,
        };
        if bits == 0 {
            return entry(total, passed, 0);
        }
        if total > LOOK {
            return entry(total, passed, UNKNOWN);
        }
        let magnitude = (look >> (LOOK - total)) & ((1 << bits) - 1);
        entry(total, passed, extend(magnitude as i32, bits) as i16)
    }

    fn passing(codes: &[Code], pass: &mut [Entry; LOOKS]) {
        for (look, pass) in pass.iter_mut().enumerate() {
            let (mut skip, mut passed, mut ends) = (0, 0, 0);
            while ends == 0 && skip < LOOK {
                let code = codes[(look << skip) & (LOOKS - 1)];
                // Bits beyond the look are zeros here, so behind the first a code counts only if all of it lies within.
                if code.length == 0 || (skip > 0 && skip + code.total() > LOOK) {
                    break;
                }
                skip += code.total();
                match (code.run(), code.bits()) {
                    (15, 0) => passed += 16,
                    (_, 0) => ends = 1,
                    (run, _) => passed += run + 1,
                }
            }
            *pass = entry(skip, passed, ends);
        }
    }

    /// The entry of the code at the beginning of `next`, however long it is; none where the bits are no code.
    #[inline(always)]
    fn look(&self, next: u64) -> Option<Entry> {
        let found = self.decode[(next >> (64 - LOOK)) as usize];
        if found != 0 { Some(found) } else { self.long(next) }
    }

    #[cold]
    #[inline(never)]
    fn long(&self, next: u64) -> Option<Entry> {
        let next = (next >> 48) as u32;
        let length = (LOOK + 1..=16).find(|length| next < self.limits[*length as usize])?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length as usize];
        let symbol = *self.symbols.get(usize::try_from(index).ok()?)?;
        Some(Self::single(Code { length: length as u8, symbol }, 0, self.first_coefficients))
    }

    /// The value of the code at the beginning of `next`, which was looked up.
    #[inline(always)]
    fn value(&self, next: u64, found: Entry) -> i32 {
        let known = (found >> 16) as u16 as i16;
        if known != UNKNOWN { i32::from(known) } else { self.beyond(next, found & 0xff) }
    }

    /// A value whose bits reach beyond a look; they are `total` with its code.
    #[inline(never)]
    fn beyond(&self, next: u64, total: u32) -> i32 {
        let code = (next >> 48) as u32;
        let length = (1..=16).find(|length| code < self.limits[*length as usize]).unwrap_or(16);
        let bits = total - length;
        extend(((next << length) >> (64 - bits)) as i32, bits)
    }
}

/// Reads the difference of a block's first coefficient from the one before; none where the bits are no code.
#[inline(always)]
pub(super) fn first_difference(reader: &mut BitReader<'_>, table: &Table) -> Option<i32> {
    reader.fill();
    let next = reader.buffer;
    let found = table.look(next)?;
    reader.skip(found & 0xff);
    Some(table.value(next, found))
}

/// Reads a block's other coefficients: those up to the index `last` of the file's order go to `keep`, the rest is passed over.
///
/// None where the bits are no codes or hold more coefficients than a block has.
#[inline(always)]
pub(super) fn other_coefficients(
    reader: &mut BitReader<'_>,
    table: &Table,
    last: usize,
    mut keep: impl FnMut(usize, i32),
) -> Option<()> {
    let mut index = 1;
    while index <= last {
        reader.fill();
        let next = reader.buffer;
        let found = table.look(next)?;
        reader.skip(found & 0xff);
        let passed = (found >> 8 & 0xff) as usize;
        if passed == END as usize {
            return Some(());
        }
        index += passed;
        if index > 64 {
            return None;
        }
        // A run of 16 zeros has the value 0, which may be kept.
        keep(index - 1, table.value(next, found));
    }
    while index < 64 {
        reader.fill();
        // Two looks for each fill: none takes more than 27 bits.
        for _ in 0..2 {
            let found = table.pass[(reader.buffer >> (64 - LOOK)) as usize];
            let behind = index + (found >> 8 & 0xff) as usize;
            if found != 0 && behind < 64 {
                reader.skip(found & 0xff);
                index = behind;
                if found >> 16 != 0 {
                    return Some(());
                }
                continue;
            }
            // The last codes of a block, one by one: what follows them belongs to the next block.
            let found = table.look(reader.buffer)?;
            reader.skip(found & 0xff);
            let passed = found >> 8 & 0xff;
            if passed == END {
                return Some(());
            }
            index += passed as usize;
            if index >= 64 {
                break;
            }
        }
    }
    (index == 64).then_some(())
}
