use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::Result;
use crate::measure::{Case, Sample};
use crate::results::{Results, own_cpu, own_rss};
use crate::stats::{self, Spread};

/// Debian's fonts-dejavu-core has it.
const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";

const WIDTH: u32 = 1200;
const PANEL: u32 = 300;
const INK: RGBColor = RGBColor(40, 40, 40);
const OTHERS: RGBColor = RGBColor(150, 165, 185);
const OURS: RGBColor = RGBColor(20, 110, 180);
const FAINT: RGBColor = RGBColor(225, 225, 225);

/// From one marked blob size to the next.
const SIZE_STEP: f64 = 64.0;

/// A picture, without its file name's end.
pub struct Plot {
    pub file: &'static str,
    pub title: &'static str,
}

const COMPARISON: Plot = Plot {
    file: "comparison",
    title: "One large blob, one client: wall time and CPU of each contender",
};
const SIZES: Plot = Plot {
    file: "sizes",
    title: "blobgate, one push against the blob's size (sink)",
};
const CLIENTS: Plot = Plot {
    file: "clients",
    title: "blobgate against the number of clients, each with one blob (sink)",
};

/// Scenarios that compare contenders, and what they are called in a picture.
const COMPARED: [(&str, &str); 4] = [
    ("sink", "sink"),
    ("real", "S3"),
    ("distant-sink", "distant sink: 20 ms, 50 MB/s a connection"),
    ("distant", "distant S3: 20 ms, 50 MB/s a connection"),
];

/// Loads the font, so that a missing one is known before anything is measured.
pub fn prepare() -> Result<()> {
    let bytes = fs::read(FONT)
        .map_err(|error| format!("{FONT}: {error} (apt-get install fonts-dejavu-core)"))?;
    plotters::style::register_font("sans-serif", FontStyle::Normal, bytes.leak())
        .map_err(|_| format!("{FONT} is no font"))?;
    Ok(())
}

/// Which plots there are, by what was measured.
pub fn write_png(results: &Results, dir: &Path) -> Result<Vec<Plot>> {
    each(results, |plot, height| {
        let file = dir.join(format!("{}.png", plot.file));
        let area = BitMapBackend::new(&file, (WIDTH, height)).into_drawing_area();
        draw(results, plot, &area)
    })
}

/// The same as SVG.
pub fn write_svg(results: &Results, dir: &Path) -> Result<Vec<Plot>> {
    each(results, |plot, height| {
        let file = dir.join(format!("{}.svg", plot.file));
        let area = SVGBackend::new(&file, (WIDTH, height)).into_drawing_area();
        draw(results, plot, &area)
    })
}

fn each(results: &Results, draw: impl Fn(&Plot, u32) -> Result<()>) -> Result<Vec<Plot>> {
    let mut drawn = Vec::new();
    let rows = compared(results).len() as u32;
    for (plot, height) in [
        (COMPARISON, rows * PANEL),
        (SIZES, measured(results, "sizes") * (PANEL + 80)),
        (CLIENTS, measured(results, "clients") * (PANEL + 80)),
    ] {
        if height > 0 {
            draw(&plot, height + 50)?;
            drawn.push(plot);
        }
    }
    Ok(drawn)
}

fn measured(results: &Results, scenario: &str) -> u32 {
    (results.cases(scenario).len() > 1).into()
}

fn compared(results: &Results) -> Vec<(&'static str, &'static str)> {
    let measured = |(scenario, _): &(&str, &str)| !results.cases(scenario).is_empty();
    COMPARED.into_iter().filter(measured).collect()
}

fn draw<B: DrawingBackend>(
    results: &Results,
    plot: &Plot,
    area: &DrawingArea<B, Shift>,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let area = area
        .margin(10, 0, 0, 0)
        .titled(plot.title, ("sans-serif", 22).into_font().color(&INK))?;
    match plot.file {
        "comparison" => comparison(results, &area)?,
        "sizes" => sizes(results, &area)?,
        _ => clients(results, &area)?,
    }
    area.present()?;
    Ok(())
}

fn comparison<B: DrawingBackend>(results: &Results, area: &DrawingArea<B, Shift>) -> Result<()>
where
    B::ErrorType: 'static,
{
    let scenarios = compared(results);
    let panels = area.split_evenly((scenarios.len(), 2));
    for ((scenario, name), panels) in scenarios.into_iter().zip(panels.chunks(2)) {
        let cases = results.cases(scenario);
        let size = stats::size(cases[0].size);
        let title = format!("{name}, {size}: wall time, s");
        bars(&panels[0], &title, &values(results, &cases, |s| s.wall))?;
        let title = format!("{name}, {size}: own CPU, s/GiB");
        bars(&panels[1], &title, &values(results, &cases, own_cpu))?;
    }
    Ok(())
}

type Figure = fn(&Sample) -> f64;
type Bar = (&'static str, Spread);

fn values(results: &Results, cases: &[&Case], figure: Figure) -> Vec<Bar> {
    let bar = |case: &&Case| (case.contender, results.spread(case, figure));
    cases.iter().map(bar).collect()
}

/// A bar for each contender, with a line from the least to the most.
fn bars<B: DrawingBackend>(area: &DrawingArea<B, Shift>, title: &str, bars: &[Bar]) -> Result<()>
where
    B::ErrorType: 'static,
{
    let most = bars
        .iter()
        .map(|(_, spread)| spread.max)
        .fold(0.0, f64::max);
    let count = bars.len();
    // The first on top.
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) if *at < count => bars[count - 1 - at].0.to_owned(),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17).into_font().color(&INK))
        .margin(10)
        .margin_right(25)
        .x_label_area_size(28)
        .y_label_area_size(150)
        .build_cartesian_2d(0.0..most * 1.22, (0..count - 1).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .x_labels(6)
        .y_label_formatter(&name)
        .draw()?;
    for (at, (name, spread)) in bars.iter().rev().enumerate() {
        let colour = if *name == "blobgate" { OURS } else { OTHERS };
        let (from, to) = (SegmentValue::Exact(at), SegmentValue::Exact(at + 1));
        let mut bar = Rectangle::new([(0.0, from), (spread.median, to)], colour.filled());
        bar.set_margin(7, 7, 0, 0);
        let middle = || SegmentValue::CenterOf(at);
        let whisker = vec![(spread.min, middle()), (spread.max, middle())];
        let text = EmptyElement::at((spread.max, middle()))
            + Text::new(
                format!("{:.2}", spread.median),
                (8, -7),
                ("sans-serif", 14).into_font().color(&INK),
            );
        chart.draw_series([bar])?;
        chart.draw_series([PathElement::new(whisker, INK.stroke_width(2))])?;
        chart.draw_series([text])?;
    }
    Ok(())
}

/// One point of a line: where, and the values of its runs.
type Point = (f64, Spread);

fn points(
    results: &Results,
    scenario: &str,
    x: impl Fn(&Case) -> f64,
    y: impl Fn(&Sample) -> f64,
) -> Vec<Point> {
    let cases = results.cases(scenario);
    let mut points: Vec<Point> = cases
        .into_iter()
        .map(|case| (x(case), results.spread(case, &y)))
        .collect();
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn sizes<B: DrawingBackend>(results: &Results, area: &DrawingArea<B, Shift>) -> Result<()>
where
    B::ErrorType: 'static,
{
    let panels = area.split_evenly((1, 3));
    let of = |y: Figure| points(results, "sizes", |case| case.size as f64, y);
    let each = |sample: &Sample| sample.wall / sample.requests as f64;
    let cpu = |sample: &Sample| own_cpu(sample) * stats::gib(sample.case.size as f64);
    let rss = |sample: &Sample| stats::mib(own_rss(sample));
    let x = |points: &[Point]| -> LogCoord<f64> {
        let ends = ends(points);
        let scale = (ends.start / 2.0..ends.end * 2.0).log_scale();
        scale.base(SIZE_STEP).into()
    };
    let bytes = |bytes: &f64| power(*bytes);

    let wall = of(each);
    let y = logarithmic(&wall);
    line(
        &panels[0],
        "wall time, s (logarithmic)",
        "blob size (logarithmic)",
        &wall,
        x(&wall),
        y,
        &bytes,
    )?;
    let cpu = of(cpu);
    let y = logarithmic(&cpu);
    line(
        &panels[1],
        "own CPU, s (logarithmic)",
        "blob size (logarithmic)",
        &cpu,
        x(&cpu),
        y,
        &bytes,
    )?;
    let rss = of(rss);
    let y = from_zero(&rss);
    line(
        &panels[2],
        "peak RSS, MiB",
        "blob size (logarithmic)",
        &rss,
        x(&rss),
        y,
        &bytes,
    )
}

fn clients<B: DrawingBackend>(results: &Results, area: &DrawingArea<B, Shift>) -> Result<()>
where
    B::ErrorType: 'static,
{
    let panels = area.split_evenly((1, 3));
    let figures: [(&str, Figure); 3] = [
        ("wall time of all, s", |sample| sample.wall),
        ("own CPU, s", |sample| {
            own_cpu(sample) * stats::gib(sample.bytes as f64)
        }),
        ("peak RSS, MiB", |sample| stats::mib(own_rss(sample))),
    ];
    for (panel, (title, figure)) in panels.iter().zip(figures) {
        let points = points(results, "clients", |case| case.clients as f64, figure);
        let (x, y) = (0.0..ends(&points).end * 1.05, from_zero(&points));
        line(panel, title, "clients", &points, x, y, &|x| {
            format!("{x:.0}")
        })?;
    }
    Ok(())
}

fn ends(points: &[Point]) -> Range<f64> {
    let first = points.first().map_or(1.0, |(x, _)| *x);
    first..points.last().map_or(first, |(x, _)| *x)
}

fn from_zero(points: &[Point]) -> Range<f64> {
    0.0..points.iter().map(|(_, y)| y.max).fold(0.0, f64::max) * 1.15
}

fn logarithmic(points: &[Point]) -> LogCoord<f64> {
    let least = points
        .iter()
        .map(|(_, y)| y.min)
        .fold(f64::INFINITY, f64::min);
    let most = from_zero(points).end;
    // Less CPU than a clock tick is no CPU at all.
    (least.max(1e-5) / 2.0..most * 2.0).log_scale().into()
}

/// Bytes, rounded to a power of two's name.
fn power(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut value = bytes;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.0} {}", units[unit])
}

/// Medians joined by a line, each with a line from its least to its most.
fn line<B: DrawingBackend, X, Y>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    x_title: &str,
    points: &[Point],
    x: X,
    y: Y,
    x_label: &dyn Fn(&f64) -> String,
) -> Result<()>
where
    B::ErrorType: 'static,
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17).into_font().color(&INK))
        .margin(10)
        .margin_right(20)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .x_labels(6)
        .x_desc(x_title)
        .x_label_formatter(x_label)
        .y_label_formatter(&|y| number(*y))
        .draw()?;
    let medians = points.iter().map(|(x, y)| (*x, y.median));
    chart.draw_series(LineSeries::new(medians.clone(), OURS.stroke_width(2)))?;
    chart.draw_series(medians.map(|at| Circle::new(at, 4, OURS.filled())))?;
    for (x, y) in points {
        let whisker = vec![(*x, y.min), (*x, y.max)];
        chart.draw_series([PathElement::new(whisker, INK.stroke_width(1))])?;
    }
    Ok(())
}

fn number(value: f64) -> String {
    match value {
        v if v >= 10.0 => format!("{v:.0}"),
        // As many digits as the value has: axes are marked at round ones.
        v => format!("{}", (v * 1e6).round() / 1e6),
    }
}
