"""Prometheus' text format: counters, cumulative histograms, gauges read at scrape time."""

from qianwen.serve.prometheus import Metrics


def test_text():
    metrics = Metrics()
    metrics.count("tokens_total", 3, kind='a"b\\c\nd')
    metrics.count("tokens_total", 2, kind='a"b\\c\nd')
    for seconds in (0.001, 0.3, 100.0):
        metrics.observe("wait_seconds", seconds)
    queue = [1, 2]
    metrics.gauge("queue", lambda: len(queue))
    queue.append(3)
    lines = metrics.text().splitlines()
    assert 'qianwen_tokens_total{kind="a\\"b\\\\c\\nd"} 5' in lines
    assert 'qianwen_wait_seconds_bucket{le="0.005"} 1' in lines
    assert 'qianwen_wait_seconds_bucket{le="0.5"} 2' in lines
    assert 'qianwen_wait_seconds_bucket{le="+Inf"} 3' in lines
    assert "qianwen_wait_seconds_count 3" in lines
    assert "qianwen_queue 3" in lines
