//! The program's own cost, for one who changes it: `cost OBJECT FLOWS…`.
use towpath_tests::bench::{Programs, cost};
fn main() {
    let mut args = std::env::args().skip(1);
    let relay = std::path::PathBuf::from(args.next().unwrap());
    let bench = std::path::PathBuf::from(args.next().unwrap());
    let flows: Vec<u32> = args.map(|a| a.parse().unwrap()).collect();
    let p = Programs {
        towpath: "".into(),
        relay,
        bench,
    };
    for c in cost::measure(&p, &flows, 1500).unwrap() {
        print!(
            "{}{}: {:.0}/{:.0}  ",
            if c.v6 { "v6 " } else { "v4 " },
            c.flows,
            c.ns,
            c.ns_p10
        );
    }
    println!();
}
