"""How the page of an inventory looks: in light and dark, from a telephone's width on, and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["style_of"]

#: Nothing depends on colour alone: what expired is a pale bar within an outline, what was refused is hatched.
_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--raised:#f5f6f8;--text:#1c1f24;--quiet:#5a626e;--line:#d5d9df;
--good:#116329;--bad:#b42318;--open:#7a4d00;--k0:#2f5fb3;--k1:#c98a1b;--k2:#3b8c6e;--k3:#8456a8;--k4:#4aa3c7;
--k5:#7d7468;--k6:#a7adb6;--pale:.28}
@media (prefers-color-scheme:dark){:root{--ground:#14171b;--raised:#1d2127;--text:#e8eaed;--quiet:#a3abb6;
--line:#353b44;--good:#63c787;--bad:#ff8a7a;--open:#e5b566;--k0:#7ba6ee;--k1:#e3b04f;--k2:#6cc3a0;--k3:#b98fdb;
--k4:#7fcdea;--k5:#b3a999;--k6:#6d747e}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px;max-width:1120px;background:var(--ground);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:36px 0 12px;padding-top:14px;border-top:1px solid var(--line)}
p{margin:6px 0}.kind{color:var(--quiet);margin:0}header p{color:var(--quiet)}
.limited{color:var(--open);font-weight:600}
.sentence{font-size:1.35rem;line-height:1.3;margin:22px 0 18px;padding-left:14px;border-left:6px solid var(--quiet);
overflow-wrap:anywhere}
.sentence.good{border-color:var(--good)}.sentence.bad{border-color:var(--bad)}.sentence.open{border-color:var(--open)}
ul{padding-left:22px;margin:8px 0}li{margin:4px 0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(5,1fr);gap:12px;margin:0 0 20px}
.tiles div{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.tiles div.bad{border-color:var(--bad);border-width:2px;padding:11px 13px}
dt{color:var(--quiet);font-size:.85rem}dd{margin:0;font-size:1.6rem;line-height:1.25;font-variant-numeric:tabular-nums}
dd.note{font-size:.8rem;color:var(--quiet)}
figure{margin:0}figure svg{display:block;width:100%;height:auto;overflow:visible}
figcaption{color:var(--quiet);font-size:.85rem;margin-top:6px}
svg text{fill:var(--quiet);font-size:13px;paint-order:stroke;stroke:var(--ground);stroke-width:4px}
.rows{text-anchor:end}.grid{stroke:var(--line)}.axis{stroke:var(--quiet)}
.ttl{stroke:var(--text);stroke-width:1.5;stroke-dasharray:5 4}
.k0{fill:var(--k0);stroke:var(--k0)}.k1{fill:var(--k1);stroke:var(--k1)}.k2{fill:var(--k2);stroke:var(--k2)}
.k3{fill:var(--k3);stroke:var(--k3)}.k4{fill:var(--k4);stroke:var(--k4)}.k5{fill:var(--k5);stroke:var(--k5)}
.k6{fill:var(--k6);stroke:var(--k6)}.bar{stroke-width:0}.expired{fill-opacity:var(--pale);stroke-width:1}
.all{fill:transparent}.refused{fill:url(#hatching);stroke:var(--bad);stroke-width:1}
.hatched{fill:var(--ground)}.hatch{stroke:var(--bad);stroke-width:2}
.legend{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:4px 20px;font-size:.85rem}
.legend svg{vertical-align:-2px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{text-align:left;vertical-align:top;padding:7px 12px 7px 0;border-bottom:1px solid var(--line)}
thead th{color:var(--quiet);font-weight:500;vertical-align:bottom}tbody th{font-weight:400;white-space:nowrap}
tr.bad th{color:var(--bad);font-weight:600}
.quiet{color:var(--quiet)}
td{font-variant-numeric:tabular-nums}.whole{display:inline-block;max-width:100%;overflow-wrap:anywhere}
@media print,(min-width:701px){.keys :is(th,td):nth-child(n+3):nth-child(-n+6),.outcomes :is(th,td):nth-child(2)
{text-align:right}.keys td:nth-child(6){white-space:nowrap}.keys :is(th,td):nth-child(6){padding-right:20px}}
code{font:.85em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media screen and (max-width:700px){body{padding:16px}.sentence{font-size:1.15rem}
.tiles{grid-template-columns:repeat(6,1fr);gap:10px}.tiles div{grid-column:span 2;padding:10px}
.tiles div.bad{padding:9px}.tiles div:nth-child(-n+2){grid-column:span 3}dd{font-size:1.35rem}
svg text{font-size:28px;stroke-width:7px}.rows{text-anchor:start;transform:translate(-58px,-12px)}
.days{transform:translateY(12px)}.bar.expired,.refused{stroke-width:2}
table,tbody,tr,th,td{display:block}thead{display:none}tbody th{white-space:normal;overflow-wrap:anywhere}
tr{padding:8px 0;border-bottom:1px solid var(--line)}th,td{border:0;padding:1px 0}
td{padding-left:10em}td:before{float:left;width:10em;margin-left:-10em}
td:before{color:var(--quiet)}HEADS_HERE}
@media print{:root{font-size:10pt;--ground:#fff;
--raised:#fff;--text:#000;--quiet:#333;--line:#999;--good:#000;--bad:#000;--open:#000;
--k0:#222;--k1:#666;--k2:#999;--k3:#444;--k4:#808080;--k5:#b3b3b3;--k6:#ccc;--pale:.12}
body{max-width:none;padding:0;font-size:10pt;line-height:1.4}h2{margin-top:20px}h2,thead{break-after:avoid}
figure,.tiles,.legend,tr,li{break-inside:avoid}.wide{overflow:visible}code{overflow-wrap:anywhere}
.bar{stroke:#000;stroke-width:.5}.expired{stroke-dasharray:2 1}}
"""


def style_of(tables: Mapping[str, Sequence[str]]) -> str:
    """The style of a page with these tables: the heads of their columns, by their class.

    Where there is no room for columns, the name of its column stands before each cell.
    """
    heads = "".join(
        f'.{table} td:nth-child({place}):before{{content:"{head}"}}'
        for table, (_, *others) in tables.items()
        for place, head in enumerate(others, 2)
    )
    return _STYLE.replace("\n", "").replace("HEADS_HERE", heads)
