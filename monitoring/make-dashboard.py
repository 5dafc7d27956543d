#!/usr/bin/env python3
"""Writes grafana-dashboard.json beside this file: the dashboard's one source, since Grafana's own export is unreadable in a diff."""
import json, pathlib

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
HOST = 'instance=~"$instance"'
ENDS = "certsyncd_certificate_not_after_timestamp_seconds"
DAYS = [{"color": "red", "value": None}, {"color": "orange", "value": 3}, {"color": "yellow", "value": 14}, {"color": "green", "value": 30}]


def panel(title, kind, x, y, w, h, queries, description, unit="none", options=None, steps=None, transformations=None, overrides=None):
    targets = [
        {"datasource": DATASOURCE, "expr": expr, "legendFormat": legend, "refId": chr(65 + i), "instant": kind in ("stat", "table"),
         "format": "table" if kind == "table" else "time_series"}
        for i, (expr, legend) in enumerate(queries)
    ]
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps or [{"color": "green", "value": None}]}}
    return {"title": title, "type": kind, "description": description, "datasource": DATASOURCE, "targets": targets,
            "gridPos": {"x": x, "y": y, "w": w, "h": h}, "options": options or {}, "transformations": transformations or [],
            "fieldConfig": {"defaults": defaults, "overrides": overrides or []}}


def background(name):
    return {"matcher": {"id": "byName", "options": name},
            "properties": [{"id": "custom.cellOptions", "value": {"type": "color-background"}},
                           {"id": "thresholds", "value": {"mode": "absolute", "steps": DAYS}}, {"id": "decimals", "value": 1}]}


def days(source):
    return f'({ENDS}{{{HOST},source="{source}"}} - time()) / 86400'


NONE_BAD = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
COLUMNS = {"name": "Certificate", "instance": "Host", "provider": "Provider", "Value #A": "On disk", "Value #B": "Served", "Value #C": "At the provider"}

panels = [
    panel("Certificates", "stat", 0, 0, 4, 4, [(f'count({ENDS}{{{HOST},source="disk"}})', "")], "Installed on the hosts chosen above."),
    panel("First to end", "stat", 4, 0, 4, 4, [(f"min({days('disk')})", "")], "Days left of the installed certificate that ends first.",
          unit="d", steps=DAYS),
    panel("Expired", "stat", 8, 0, 4, 4, [(f'count({ENDS}{{{HOST},source=~"disk|served"}} <= time()) or vector(0)', "")],
          "On disk or served past their end.", steps=NONE_BAD),
    panel("Not served as installed", "stat", 12, 0, 4, 4,
          [(f'count({ENDS}{{{HOST},source="served"}} != on(instance,name,provider) {ENDS}{{{HOST},source="disk"}}) or vector(0)', "")],
          "A server shows another end than the file on disk has.", steps=NONE_BAD),
    panel("Since the last good pass", "stat", 16, 0, 4, 4, [(f"max(time() - certsyncd_pass_last_success_timestamp_seconds{{{HOST}}})", "")],
          "The longest of all hosts.", unit="s",
          steps=[{"color": "green", "value": None}, {"color": "yellow", "value": 3600}, {"color": "red", "value": 21600}]),
    panel("Deploys that failed, 24 h", "stat", 20, 0, 4, 4,
          [(f'sum(increase(certsyncd_deploys_total{{{HOST},outcome=~"failed|rolled_back"}}[24h])) or vector(0)', "")],
          "Servers that did not take a certificate.", steps=NONE_BAD),
    panel("Days left", "table", 0, 4, 24, 10, [(days("disk"), ""), (days("served"), ""), (days("provider"), "")],
          "Three ends of each certificate. They should be equal: a greater one at the provider is a renewal that is not live, "
          "another one served is a reload that did not take.",
          transformations=[{"id": "merge", "options": {}},
                           {"id": "organize", "options": {"excludeByName": {"Time": True, "source": True, "job": True, "__name__": True},
                                                          "renameByName": COLUMNS}}],
          overrides=[background("On disk"), background("Served"), background("At the provider")],
          options={"sortBy": [{"displayName": "On disk", "desc": False}]}),
    panel("Requests to providers", "timeseries", 0, 14, 8, 8,
          [(f"sum by (provider, operation, outcome) (rate(certsyncd_provider_requests_total{{{HOST}}}[$__rate_interval]))",
            "{{provider}} {{operation}} {{outcome}}")], "A quiet pass lists, and exports no key.", unit="reqps"),
    panel("Duration of a pass", "timeseries", 8, 14, 8, 8, [(f"certsyncd_pass_duration_seconds{{{HOST}}}", "{{instance}}")],
          "The last pass of each host.", unit="s"),
    panel("Deploys and alerts", "timeseries", 16, 14, 8, 8,
          [(f"sum by (target, outcome) (increase(certsyncd_deploys_total{{{HOST}}}[$__rate_interval]))", "{{target}} {{outcome}}"),
           (f"sum by (event, channel, outcome) (increase(certsyncd_alerts_total{{{HOST}}}[$__rate_interval]))", "{{event}} to {{channel}} {{outcome}}")],
          "What was reloaded, and who was told."),
]
for number, each in enumerate(panels, 1):
    each["id"] = number

dashboard = {
    "uid": "certsyncd", "title": "certsyncd: certificates", "tags": ["certsyncd", "tls"], "timezone": "browser", "schemaVersion": 38, "version": 1,
    "refresh": "1m", "time": {"from": "now-24h", "to": "now"}, "panels": panels,
    "templating": {"list": [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
        {"name": "instance", "type": "query", "label": "Host", "datasource": DATASOURCE, "multi": True, "includeAll": True, "allValue": ".*",
         "query": {"query": "label_values(certsyncd_build_info, instance)", "refId": "instance"}, "refresh": 2,
         "current": {"text": "All", "value": "$__all"}},
    ]},
}
pathlib.Path(__file__).with_name("grafana-dashboard.json").write_text(json.dumps(dashboard, indent=1) + "\n")
