#!/usr/bin/env bash
# feast 0.67.0 with typeguard 4.6.0: importing it parses its modules many times over.
#
# Guess before looking: `import feast` runs each module's bytecode once, from the cache of compiled files; about 2 s.
# Seen: typeguard's @typechecked, which feast puts on its methods, reads the source of the whole module and parses it
# for every single function that it decorates, at each start of a process. `python -O` leaves it out.
# Why it matters: every process that reads the feature store pays for it before its first request.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet feast==0.67.0 typeguard==4.6.0
cat > "$work/count.py" <<'PY'
import ast
import sys
from collections import Counter

parse, parsed = ast.parse, Counter()


def counted(source, *rest, **named):
    if isinstance(source, str) and len(source) > 2_000:
        parsed[source[:2_000]] += 1
    return parse(source, *rest, **named)


ast.parse = counted
import feast  # noqa: E402

print(sum(parsed.values()), len(parsed), max(parsed.values(), default=0), feast.__version__, sys.flags.optimize)
PY
plain=$("$work/venv/bin/python" -W ignore "$work/count.py" 2>/dev/null | tail -1)
optimised=$("$work/venv/bin/python" -O -W ignore "$work/count.py" 2>/dev/null | tail -1)
echo "parses, modules, most of one module, feast, -O: $plain; $optimised"
read -r parses modules most _ <<<"$plain"
read -r rest _ <<<"$optimised"
[ "$most" -ge 10 ] && [ "$parses" -gt $((3 * modules)) ] || { echo "modules are no longer parsed again: look again"; exit 1; }
[ "$rest" -lt $((parses / 3)) ] || { echo "-O no longer leaves it out: look again"; exit 1; }
# Output seen: parses, modules, most of one module, feast, -O: 242 15 55 0.67.0 0; 0 0 0 0.67.0 1
