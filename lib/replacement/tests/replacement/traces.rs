//! Traces: sequences of pages that a program accesses, made from seeds.
//!
//! `FRAMES` is the size of memory for which they are made. The page-ins of Linux were measured on the same sequences,
//! so the digests of the traces are tested, too.

use replacement::Page;

/// The memory for which the traces are made, in frames.
pub const FRAMES: u32 = 8_192;

/// A sequence of accesses to the pages from 0 on.
pub struct Trace {
    pub name: &'static str,
    /// The number of pages: a program touches each of them once, in order, before the accesses that count.
    pub pages: u32,
    pub accesses: Vec<Page>,
}

/// The names of the traces, in the order in which tables show them.
pub const NAMES: [&str; 7] = ["loop", "uniform", "zipf", "zipf4", "phase", "scanhot", "zipfscan"];

impl Trace {
    /// All traces.
    pub fn all(seed: u64) -> Vec<Trace> {
        NAMES.into_iter().map(|name| Trace::new(name, seed)).collect()
    }

    fn new(name: &'static str, seed: u64) -> Trace {
        let random = &mut Random::new(seed);
        let (pages, accesses) = match name {
            "loop" => around(),
            "uniform" => (2 * FRAMES, (0..8 * FRAMES).map(|_| random.below(2 * FRAMES)).collect()),
            "zipf" => zipf(2 * FRAMES, random),
            "zipf4" => zipf(4 * FRAMES, random),
            "phase" => phases(random),
            "scanhot" => hot_pages_and_scans(random),
            "zipfscan" => zipf_and_scans(random),
            _ => unreachable!("there is no trace {name}"),
        };
        Trace { name, pages, accesses: accesses.into_iter().map(Page).collect() }
    }

    /// The FNV-1a hash over the numbers of the pages.
    pub fn digest(&self) -> u64 {
        let step = |hash: u64, page: &Page| (hash ^ u64::from(page.0)).wrapping_mul(0x100_0000_01b3);
        self.accesses.iter().fold(0xcbf2_9ce4_8422_2325, step)
    }
}

/// A loop over half as many pages again as memory has.
fn around() -> (u32, Vec<u32>) {
    let pages = FRAMES + FRAMES / 2;
    (pages, (0..8 * FRAMES).map(|i| i % pages).collect())
}

/// A few pages are popular, most are not.
fn zipf(pages: u32, random: &mut Random) -> (u32, Vec<u32>) {
    let zipf = Zipf::new(pages);
    (pages, (0..8 * FRAMES).map(|_| zipf.draw(random)).collect())
}

/// Four phases, each with other pages, which would fit into memory.
fn phases(random: &mut Random) -> (u32, Vec<u32>) {
    let (accesses, pages) = (3 * FRAMES, FRAMES / 4 * 3);
    let phase = |first: u32| (0..accesses).map(move |_| first).collect::<Vec<_>>();
    let firsts = (0..4).flat_map(|number| phase(number * pages));
    (4 * pages, firsts.map(|first| first + random.below(pages)).collect())
}

/// Half of the accesses go to pages that would fill half of memory, the others scan twice its size again and again.
fn hot_pages_and_scans(random: &mut Random) -> (u32, Vec<u32>) {
    let (hot, scanned) = (FRAMES / 2, 2 * FRAMES);
    let mut scan = (0..scanned).cycle();
    let mut access = || if random.next() >> 63 == 1 { random.below(hot) } else { hot + scan.next().unwrap_or(0) };
    (hot + scanned, (0..12 * FRAMES).map(|_| access()).collect())
}

/// A scan of all pages after each as many popular ones.
fn zipf_and_scans(random: &mut Random) -> (u32, Vec<u32>) {
    let pages = 2 * FRAMES;
    let zipf = Zipf::new(pages);
    let access = |i: u32| if i % (2 * pages) < pages { zipf.draw(random) } else { i % pages };
    (pages, (0..12 * FRAMES).map(access).collect())
}

/// A generator of random numbers: xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u32) -> u32 {
        (((self.next() >> 32) * u64::from(limit)) >> 32) as u32
    }
}

/// Zipf's distribution with the exponent 0.99: the n-th of the popular pages is accessed in proportion to 1/n^0.99.
struct Zipf {
    /// The sum of the weights up to each rank.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(pages: u32) -> Zipf {
        let weights = (1..=pages).map(|rank| 1.0 / f64::from(rank).powf(0.99));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Zipf { sums: sums.collect() }
    }

    /// A page. Ranks are scattered over the range, so that popular pages are no neighbours.
    fn draw(&self, random: &mut Random) -> u32 {
        let count = self.sums.len();
        let point = (random.next() >> 11) as f64 / (1u64 << 53) as f64 * self.sums[count - 1];
        let rank = self.sums.partition_point(|&sum| sum <= point).min(count - 1);
        ((rank * 7_919 + 13) % count) as u32
    }
}
