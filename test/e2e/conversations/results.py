"""Results of processes and messages with provenance, as the node hands them over."""

from support.conversation import conversation

from .events import leaves, stream

ORIGIN = (
    '#{source => <<"http">>, from => [<<"alice">>, <<"bob">>], path => <<"/x/y">>, hashpath => <<"h">>, '
    'assignment => <<"s">>, process => <<"%s">>, slot => 3}'
)


def slot(talk, process, number):
    event = f'{{#{{<<"n">> => {number}}}, #{{process => <<"{process}">>, slot => {number}}}}}'
    talk.does(f'hb_websocket_nif:publish_slot(<<"{process}">>, {number}, 0, [{event}, {event}], true)')


@conversation()
def messages_with_provenance(talk):
    process = "P" * 43
    line = talk.websocket(f"/ws?process={process}")
    other = talk.websocket("/ws?topic=from:alice")
    talk.does(f'hb_websocket_nif:publish(#{{<<"topic">> => <<"a">>, <<"from">> => <<"eve">>}}, {ORIGIN % process})')
    for each in (line, other):
        each.frames()
        each.leaves()


@conversation()
def results_of_a_process(talk):
    process = "Q" * 43
    line = talk.websocket(f"/ws?process={process}")
    talk.does(f'hb_websocket_nif:set_slot_mark(<<"{process}">>, 0)')
    slot(talk, process, 0)
    line.frames(2)
    talk.does(f'hb_websocket_nif:publish_slot_gap(<<"{process}">>, 1, 3, not_cached)')
    slot(talk, process, 4)
    talk.does(f'hb_websocket_nif:publish_slot_gap(<<"{process}">>, 5, 5, withheld)')
    talk.does(f'hb_websocket_nif:publish_slot_gap(<<"{process}">>, 6, 7, not_followed)')
    slot(talk, process, 2)
    line.frames(7)
    talk.does(f'hb_websocket_nif:publish_slot_gap(<<"{process}">>, undefined, undefined, limit)')
    line.frames()
    line.leaves()


@conversation()
def results_in_other_formats(talk):
    process = "R" * 43
    events = stream(talk, f"/events?process={process}")
    raw = talk.websocket(f"/ws?process={process}&format=raw", frames=0)
    raw.settles()
    talk.does(f'hb_websocket_nif:set_slot_mark(<<"{process}">>, 0)')
    talk.does(f'hb_websocket_nif:publish_slot_gap(<<"{process}">>, 0, 0, not_cached)')
    slot(talk, process, 1)
    events.events(3)
    leaves(events)
    raw.frames(2)
    raw.leaves()
    talk.websocket(f"/ws?process={process}&last=3", frames=5).leaves()
