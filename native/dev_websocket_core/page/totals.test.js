import assert from 'node:assert/strict'
import { test } from 'node:test'
import { paceBetween, span, sums, totalsOf } from './totals.js'

const METRICS = `# HELP dev_websocket_connections Connections
# TYPE dev_websocket_connections gauge
dev_websocket_connections{format="json"} 3
dev_websocket_connections{format="events"} 2
dev_websocket_publications_total 100
dev_websocket_messages_dropped_total{reason="too_large"} 1
dev_websocket_messages_dropped_total{reason="overload"} 2
dev_websocket_messages_dropped_total{reason="no_audience"} 999
dev_websocket_deliveries_total 5e2
dev_websocket_deliveries_dropped_total{reason="slow"} 4
dev_websocket_send_buffer_bytes 10
dev_websocket_publish_queued_bytes 20
dev_websocket_history_bytes 30
dev_websocket_build_info{protocol="1",version="0.2.0",otp="27"} 1
dev_websocket_start_time_seconds 1.7e9
dev_websocket_cast_to_socket_seconds_bucket{le="+Inf"} NaN
`

test('totals are sums over labels, and what nobody wanted is no loss', () => {
  assert.deepEqual(totalsOf(METRICS), {
    clients: 5, published: 100, delivered: 500, dropped: 7, memory: 60, started: 1.7e9, version: '0.2.0'
  })
})

test('what is not there, or no number, is not made up', () => {
  const totals = totalsOf('dev_websocket_connections{format="json"} x\n<html>\n')
  assert.ok(Object.values(totals).every((value) => value === undefined))
  assert.equal(sums(METRICS).has('dev_websocket_cast_to_socket_seconds_bucket'), false)
})

test('a pace needs two readings, and none of another server', () => {
  assert.equal(paceBetween(null, { at: 1000, value: 5 }), null)
  assert.equal(paceBetween({ at: 1000, value: 5 }, { at: 3000, value: 9 }), 2)
  assert.equal(paceBetween({ at: 1000, value: 5 }, { at: 3000, value: 4 }), null)
  assert.equal(paceBetween({ at: 1000, value: 5 }, { at: 1000, value: 9 }), null)
})

test('a span is told in its two largest units', () => {
  assert.deepEqual([0.4, 59, 60, 90, 3600, 7199, 90_000, 864_000].map(span),
    ['0 s', '59 s', '1 min', '1 min 30 s', '1 h', '1 h 59 min', '1 d 1 h', '10 d'])
})
