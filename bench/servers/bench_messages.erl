%% The messages of the cast rows: a map with a topic and data, as the simplest caller makes it, and recorded messages of a real node.
%%
%% Of a recorded message only the data and the topic are replaced: the data is measured, and the clients have subscribed
%% to the topic. The signed message has none, so there it is one tag more.
-module(bench_messages).

-export([kinds/0]).

-define(OUTBOX, "examples/feed/recorded/results_live_hyper_aos.term").
-define(SIGNED, "test/fixtures/ao_message_signed_ans104.term").

%% By name, how a message of a topic and a payload is made. Making it is the caller's own affair, and not measured.
kinds() ->
    #{<<"outbox">> := [Outbox | _]} = term(?OUTBOX),
    #{message := Signed} = term(?SIGNED),
    Unsigned = maps:remove(<<"commitments">>, Signed),
    #{
        <<"topic">> => fun(Topic, Payload) -> #{<<"topic">> => Topic, <<"data">> => Payload} end,
        %% Of an outbox, not signed: Action, Price, Symbol, Target, Topic, reference.
        <<"six">> => maker(Outbox, <<"Topic">>, <<"Data">>),
        %% The nine tags of the signed message, Price, Symbol and the topic.
        <<"twelve">> => maker(maps:merge(Unsigned, maps:with([<<"Price">>, <<"Symbol">>], Outbox)), <<"topic">>, <<"data">>),
        <<"signed">> => maker(Signed, <<"topic">>, <<"data">>)
    }.

maker(Message, TopicKey, DataKey) ->
    fun(Topic, Payload) -> Message#{TopicKey => Topic, DataKey => Payload} end.

%% The recordings are found beside the source of this module, wherever it was compiled to.
term(Name) ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    Root = filename:dirname(filename:dirname(filename:dirname(Source))),
    {ok, [Term]} = file:consult(filename:join(Root, Name)),
    Term.
