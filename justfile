# Daily commands. `just` lists them; `just NAME` runs one. https://just.systems
# Without just: each recipe is one or two plain commands, and `cargo demo`, `cargo lint` are there too.

_list:
    @just --list --unsorted

# The fast tests: no browser, no JDK, no valgrind. `just test http2::` runs the tests whose name contains `http2::`.
test *FILTER:
    tests/run --fast {{FILTER}}

# All tests, as CI runs them. `just test-all --only browser` runs one part.
test-all *ARGS:
    tests/run {{ARGS}}

# Formatting and clippy, without a warning.
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# What a change has to pass.
ci:
    .ci/run

# Micro-benchmarks.
bench *ARGS:
    cargo bench --bench micro {{ARGS}}

# How many instructions a publish takes; it fails above a bound.
instructions:
    tests/run --only instructions

# The comparison with other servers, with the build that packages have.
compare *ARGS:
    cargo build --profile dist
    node benches/compare/run.mjs {{ARGS}}

# The server, on http://127.0.0.1:8080/. `just run --open` takes its flags.
run *ARGS:
    cargo run -- {{ARGS}}

# The demo. It prints the address to open in a browser.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# The import graph, circles, and the length of files and functions.
structure *ARGS:
    node tests/structure.mjs {{ARGS}}

# The library's documentation, and what is generated from the code: the manual page.
docs:
    cargo doc --no-deps --document-private-items
    LONGTAIL_WRITE=1 cargo test --quiet --test integration docs::
