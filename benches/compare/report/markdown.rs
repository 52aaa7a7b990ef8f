use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contender::Contender;
use crate::measure::{Case, Sample};
use crate::report::plots::Plot;
use crate::results::Results;
use crate::scenario::{MIB, Scenario};
use crate::stats::{self, Spread, percentile};
use crate::targets;

/// A process that used less CPU than this in a run was not part of it, seconds.
const IDLE: f64 = 0.015;

/// The table of targets.
pub fn targets(results: &Results) -> String {
    let mut text = String::from("| Figure | Must be | Is | Reached |\n|---|---|---|---|\n");
    for target in targets::all(results) {
        let is = target.is.unwrap_or_else(|| "not measured".to_owned());
        let reached = match target.reached {
            None => "–",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        let (figure, must) = (target.figure, target.must);
        line(&mut text, &[&figure, &must, &is, reached]);
    }
    text + &floor(results)
}

/// What no one who verifies can do about the comparison with `direct`.
fn floor(results: &Results) -> String {
    let ratio = results.ratio("sink", ("limit", "direct"), |sample| sample.wall);
    ratio.map_or(String::new(), |ratio| {
        format!(
            "\n`direct` does not hash. The limit itself, one sha256 beside a bare relay, takes \
             {ratio:.2} × `direct`'s wall time on the sink.\n"
        )
    })
}

/// Everything, below headings of the second level. `folder` is where the plots are.
pub fn page(results: &Results, plots: &[Plot], folder: &str) -> String {
    let mut text = format!("## Targets\n\n{}", targets(results));
    text += &machine(results);
    for Plot { file, title } in plots {
        text += &format!("\n![{title}]({folder}{file}.svg)\n");
    }
    for scenario in Scenario::ALL {
        let cases = results.cases(scenario.name());
        if cases.is_empty() {
            continue;
        }
        let about = scenario.about();
        text += &format!("\n## {}\n\n{about}\n\n", scenario.name());
        text += &match scenario {
            Scenario::Small => latencies(results, &cases),
            Scenario::Forward => format!(
                "{}\n{}",
                throughput(results, &cases),
                latencies(results, &cases)
            ),
            Scenario::Idle => idle(results, &cases),
            _ => throughput(results, &cases),
        };
        if scenario == Scenario::Memory {
            text += &fairness(results, &cases);
        }
        if scenario != Scenario::Idle {
            text += &processes(results, &cases);
        }
    }
    text
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let setup = &results.setup;
    let mut text = String::from("\n## Machine\n\n| | |\n|---|---|\n");
    let settings = match setup.settings.as_slice() {
        [] => "as shipped".to_owned(),
        settings => settings.join(", "),
    };
    let upload = format!(
        "parts of {}, {} in flight; {} uploads at once; {} of part buffers; {} threads; settings: \
         {settings}",
        stats::size(setup.part_size),
        setup.part_concurrency,
        setup.max_streaming,
        stats::size(setup.memory_budget),
        setup.threads,
    );
    let cpu = format!("{}, {} cores", machine.cpu, machine.cores);
    let memory = format!("{:.0} GiB", machine.memory_gib);
    let extent = if setup.quick { "quick" } else { "full" };
    let took = format!("{extent}, {:.0} minutes", (setup.took / 60.0).ceil());
    for (name, value) in [
        ("CPU", &cpu),
        ("Memory", &memory),
        ("Kernel", &machine.kernel),
        ("Data on", &machine.scratch),
        ("blobgate", &machine.blobgate),
        ("Its settings", &upload),
        ("Registry", &machine.registry),
        ("Extent", &took),
    ] {
        line(&mut text, &[name, value]);
    }
    text
}

fn throughput(results: &Results, cases: &[&Case]) -> String {
    let mut text = head(&[
        "",
        "Wall, median",
        "min",
        "max",
        "GiB/s",
        "Own CPU s/GiB",
        "Own peak RSS, MiB",
    ]);
    for case in cases.iter().filter(|case| case.size > 0) {
        let each = |sample: &Sample| sample.wall * f64::from(own_share(sample));
        let wall = results.spread(case, each);
        let cpu = results.spread(case, crate::results::own_cpu).median;
        let rss = results.spread(case, crate::results::own_rss).max;
        let rate = results.spread(case, Sample::rate).median;
        let cells = [
            label(case, cases),
            stats::seconds(wall.median),
            stats::seconds(wall.min),
            stats::seconds(wall.max),
            format!("{:.3}", stats::gib(rate)),
            format!("{cpu:.2}"),
            format!("{:.0}", stats::mib(rss)),
        ];
        line(&mut text, &cells.each_ref().map(String::as_str));
    }
    text
}

/// Pushes of one client come one after another: the time is that of each.
fn own_share(sample: &Sample) -> f32 {
    let in_a_row = sample.requests.max(1) / sample.case.clients.max(1);
    1.0 / in_a_row.max(1) as f32
}

fn latencies(results: &Results, cases: &[&Case]) -> String {
    let mut text = head(&["", "p50", "p99", "A second", "S3 calls in a row"]);
    for case in cases.iter().filter(|case| case.size < MIB) {
        let all: Vec<f64> = results
            .runs(case)
            .flat_map(|s| s.latencies.clone())
            .collect();
        let rate = results.spread(case, |s| s.requests as f64 / s.wall).median;
        let rows = results.runs(case).find_map(|sample| sample.calls_in_a_row);
        let cells = [
            label(case, cases),
            stats::seconds(percentile(&all, 50.0)),
            stats::seconds(percentile(&all, 99.0)),
            format!("{rate:.0}"),
            rows.map_or("–".into(), |rows| format!("{rows:.0}")),
        ];
        line(&mut text, &cells.each_ref().map(String::as_str));
    }
    text
}

fn fairness(results: &Results, cases: &[&Case]) -> String {
    let mut text = format!(
        "\n{}",
        head(&["", "Fastest client", "Slowest client", "Ratio"])
    );
    for case in cases {
        let fastest = results
            .spread(case, |s| Spread::of(&s.latencies).min)
            .median;
        let slowest = results
            .spread(case, |s| Spread::of(&s.latencies).max)
            .median;
        let ratio = results.spread(case, targets::unfairness).median;
        let cells = [
            label(case, cases),
            stats::seconds(fastest),
            stats::seconds(slowest),
            format!("{ratio:.2}"),
        ];
        line(&mut text, &cells.each_ref().map(String::as_str));
    }
    text
}

fn idle(results: &Results, cases: &[&Case]) -> String {
    let mut text = head(&["", "RSS, MiB"]);
    for case in cases {
        let rss = results.spread(case, crate::results::own_rss).max;
        line(
            &mut text,
            &[case.contender, &format!("{:.1}", stats::mib(rss))],
        );
    }
    text
}

/// What each process used, and what the store was asked.
fn processes(results: &Results, cases: &[&Case]) -> String {
    let mut text = String::from("\n");
    text += &head(&[
        "",
        "CPU of each process",
        "Peak RSS of each, MiB",
        "S3 calls, each request",
    ]);
    for case in cases {
        let small = case.size < MIB;
        let part = match small {
            true => |sample: &Sample| sample.requests as f64 / 1e3,
            false => |sample: &Sample| stats::gib(sample.bytes as f64),
        };
        let (mut cpu, mut rss) = (Vec::new(), Vec::new());
        for name in taking_part(results, case) {
            let used = results.spread(case, |s| s.cpu.get(name).unwrap_or(&0.0) / part(s));
            cpu.push(format!("{name} {:.2}", used.median));
            let peak = results.spread(case, |s| *s.peak_rss.get(name).unwrap_or(&0) as f64);
            if peak.max > 0.0 {
                rss.push(format!("{name} {:.0}", stats::mib(peak.max)));
            }
        }
        let unit = if small { "ms each" } else { "s/GiB" };
        let cpu = format!("{unit}: {}", cpu.join(", "));
        let calls = results.runs(case).next().map(calls).unwrap_or_default();
        line(
            &mut text,
            &[&label(case, cases), &cpu, &rss.join(", "), &calls],
        );
    }
    text
}

fn taking_part<'a>(results: &'a Results, case: &'a Case) -> Vec<&'static str> {
    let mut most = BTreeMap::new();
    for sample in results.runs(case) {
        for (name, cpu) in &sample.cpu {
            let entry = most.entry(*name).or_insert(0.0_f64);
            *entry = entry.max(*cpu);
        }
    }
    let own = Contender::processes(case.contender);
    let mut names = own.to_vec();
    // The other contenders are only cleaning up behind themselves.
    let contenders = ["blobgate", "relay", "spool"];
    let others = most
        .into_iter()
        .filter(|(name, cpu)| *cpu > IDLE && !own.contains(name) && !contenders.contains(name));
    names.extend(others.map(|(name, _)| name));
    names
}

fn calls(sample: &Sample) -> String {
    let each = |(operation, count): (&String, &u64)| {
        let each = *count as f64 / sample.requests.max(1) as f64;
        match each.fract() == 0.0 {
            true => format!("{operation} {each}"),
            false => format!("{operation} {each:.1}"),
        }
    };
    let calls: Vec<String> = sample.calls.iter().map(each).collect();
    calls.join(", ")
}

/// What sets the case apart from the others of its table.
fn label(case: &Case, cases: &[&Case]) -> String {
    let differ = |differs: &dyn Fn(&Case) -> bool| cases.iter().any(|other| differs(other));
    let mut parts = Vec::new();
    if differ(&|other| other.contender != case.contender) {
        parts.push(case.contender.to_owned());
    }
    if differ(&|other| other.protocol != case.protocol) {
        parts.push(case.protocol.to_owned());
    }
    if differ(&|other| other.clients != case.clients) {
        parts.push(match case.clients {
            1 => "1 client".to_owned(),
            clients => format!("{clients} clients"),
        });
    }
    // Requests without a body have a name of their own.
    if parts.is_empty() || (case.size > 0 && differ(&|other| other.size != case.size)) {
        parts.push(stats::size(case.size));
    }
    parts.join(", ")
}

fn head(columns: &[&str]) -> String {
    let mut text = String::new();
    line(&mut text, columns);
    let rules: Vec<&str> = columns.iter().map(|_| "---").collect();
    line(&mut text, &rules);
    text
}

fn line(text: &mut String, cells: &[&str]) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}
