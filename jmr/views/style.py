"""The live view's style sheet: JupyterLab's own colours where there are any, light or dark; elsewhere the page's.

It stands in the view, which nobody cleans and which is gone when the job has ended. What stays in a notebook has its
style in line (card.py). ipywidgets' own rules are stronger than one class, hence some `!important`.
"""

from __future__ import annotations

from jmr.views.summary import FONT

__all__ = ["STYLE"]

_CSS = """
.jmr-live { position: relative; box-sizing: border-box; max-width: 860px; overflow: hidden !important;
    margin: 2px 20px 2px 0 !important; padding: 11px 14px 12px !important; font-family: FONT; font-size: 13px;
    border: 1px solid var(--jp-border-color2, rgba(128,128,128,.35)) !important; border-radius: 6px }
.jmr-live .jupyter-widgets { margin: 0 !important; min-width: 0; width: auto !important; height: auto }
.jmr-live .widget-html-content { line-height: 20px !important; font-size: 13px; overflow: hidden !important;
    color: var(--jp-ui-font-color1, inherit); font-variant-numeric: tabular-nums }
.jmr-live .jmr-dim { color: var(--jp-ui-font-color2, inherit) }
.jmr-live .jmr-bad { color: var(--jp-error-color1, #d32f2f); font-weight: 600 }
.jmr-live .jmr-map { background: #3b82f6 }
.jmr-live .jmr-shuffle { background: #a855f7 }
.jmr-live .jmr-reduce { background: #10b981 }
.jmr-live .jmr-lost { background: #ef4444 }
.jmr-live .jmr-idle { background: rgba(128,128,128,.4) }

.jmr-live .jmr-head { min-height: 26px; line-height: 26px; margin-bottom: 5px; padding-right: 94px }
.jmr-live .jmr-head b { margin-right: 8px; overflow-wrap: anywhere }
.jmr-live .jmr-head span span { white-space: nowrap }
.jmr-live .jmr-pill { display: inline-block; margin-right: 8px; padding: 0 9px 0 7px; border-radius: 10px;
    font-size: 11px; line-height: 20px; white-space: nowrap; background: rgba(128,128,128,.16) }
.jmr-live .jmr-pill i { display: inline-block; width: 8px; height: 8px; margin-right: 5px; border-radius: 50%;
    animation: jmr-pulse 2s var(--jmr-then) ease-in-out infinite }

.jmr-live .jmr-bars { display: grid; grid-template-columns: 52px minmax(60px,1fr) minmax(0,264px);
    column-gap: 12px; row-gap: 2px; align-items: center; white-space: nowrap }
.jmr-live .jmr-bars span { overflow: hidden; text-overflow: ellipsis }
.jmr-live .jmr-bar { height: 10px; border-radius: 5px; overflow: hidden; background: rgba(128,128,128,.2) }
.jmr-live .jmr-fill { height: 100%; border-radius: 5px; animation: jmr-grow var(--jmr-grow) linear }
.jmr-live .jmr-sweep { height: 100%; width: 30%; border-radius: 5px; opacity: .65;
    animation: jmr-sweep 2s var(--jmr-then) ease-in-out infinite alternate }

.jmr-live .jmr-told { margin: 8px 0 -2px; font-size: 12px; color: var(--jp-ui-font-color2, inherit) }
.jmr-live .jmr-rows { width: 100%; table-layout: fixed; border-collapse: collapse; margin: 8px 0 0; font-size: 12px }
.jmr-live .jmr-rows tr { background: transparent !important }
.jmr-live .jmr-rows :is(th,td) { padding: 1px 0 1px 10px; border: none; line-height: 18px; vertical-align: top;
    text-align: right; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.jmr-live .jmr-rows th { font-size: 11px; font-weight: 400; color: var(--jp-ui-font-color2, inherit);
    border-bottom: 1px solid var(--jp-border-color2, rgba(128,128,128,.3)) }
.jmr-live .jmr-rows :is(th,td):nth-child(-n+2) { text-align: left }
.jmr-live .jmr-rows :is(th,td):first-child { padding-left: 0 }
.jmr-live .jmr-rows :is(th,td):nth-child(2) { white-space: normal }
.jmr-live .jmr-rows :is(th,td):nth-child(n+3) { width: 58px }
.jmr-live .jmr-rows :is(th,td):last-child { width: 46px }
.jmr-live .jmr-dot { display: inline-block; width: 8px; height: 8px; margin-right: 7px; border-radius: 50% }
.jmr-live .jmr-chip { display: inline-block; width: 9px; height: 9px; margin-right: 2px; border-radius: 2px }
.jmr-live .jmr-parts { display: inline-flex; width: 60%; height: 9px; border-radius: 2px; overflow: hidden }

.jmr-live .jmr-failure { margin-top: 8px; font-size: 12px; line-height: 18px; overflow-wrap: anywhere }
.jmr-live .jmr-failure code { font-size: 12px; background: none; color: inherit }

.jmr-live .jmr-corner { position: absolute; top: 11px; right: 14px }
.jmr-live .jmr-cancel { box-sizing: border-box; min-width: 82px; width: auto !important; height: 26px !important;
    line-height: 24px !important; padding: 0 10px; font-size: 13px; text-align: center; cursor: pointer;
    border: 1px solid var(--jp-border-color1, rgba(128,128,128,.5)) !important; border-radius: 4px;
    background: transparent !important; box-shadow: none !important;
    color: var(--jp-ui-font-color1, inherit) !important }
.jmr-live .jmr-cancel:hover:enabled { border-color: #ef4444 !important;
    color: var(--jp-error-color1, #d32f2f) !important }
.jmr-live .jmr-cancel:disabled { opacity: .6; cursor: default }

@keyframes jmr-grow { from { width: var(--jmr-from) } }
@keyframes jmr-sweep { from { margin-left: 0 } to { margin-left: 70% } }
@keyframes jmr-pulse { 50% { opacity: .45 } }
@media (prefers-reduced-motion: reduce) { .jmr-live :is(i,div) { animation: none !important } }
"""
STYLE = f"<style>{_CSS.replace('FONT', FONT)}</style>"
