%%% @doc The sources of the soak: processes that cast as they are told, and count
%%% what became of each cast.
%%%
%%% Topic `N' is cast by source `N rem ?SOURCES' alone. A message carries its number
%%% among those of its topic (`reference') and of its source (`anchor'), under keys
%%% that make no topic, so a client sees what is missing and out of order. A cast
%%% that comes to nothing and of which nobody is told takes no number.
-module(soak_sources).
-export([start/1, pace/1, totals/0, restart/1]).

-define(SOURCES, 4).
-define(TOPICS, 64).
-define(KINDS, 8).
%% The largest message that the server takes has 1 MiB.
-define(TOO_LARGE, 1100000).
-define(PACES, [rest, steady, full, heavy, idle_work]).
-define(OUTCOMES, [ok, overload, too_large, no_audience, not_running, other]).

-record(source, {number, of_source = 1, of_topic = #{}}).

%% @doc Start the sources, at rest.
start(Seed) ->
    persistent_term:put({?MODULE, pace}, atomics:new(1, [])),
    persistent_term:put({?MODULE, outcomes}, counters:new(length(?OUTCOMES), [write_concurrency])),
    Alphabet = <<"abcdefghijklmnopqrstuvwxyz0123456789">>,
    persistent_term:put({?MODULE, padding}, binary:copy(Alphabet, ?TOO_LARGE div 36 + 1)),
    pace_number(rest),
    [
        register(name(Number), spawn(fun() -> source(Seed, Number) end))
     || Number <- lists:seq(0, ?SOURCES - 1)
    ],
    ok.

%% @doc Let all sources go on at a pace. At rest none of them is within a cast.
pace(rest) ->
    pace_number(rest),
    Refs = [{name(Number), make_ref()} || Number <- lists:seq(0, ?SOURCES - 1)],
    [Source ! {rest, self(), Ref} || {Source, Ref} <- Refs],
    [receive {at_rest, Ref} -> ok end || {_, Ref} <- Refs],
    ok;
pace(Pace) ->
    pace_number(Pace),
    [name(Number) ! go || Number <- lists:seq(0, ?SOURCES - 1)],
    ok.

%% @doc How many casts had which outcome.
totals() ->
    Counters = persistent_term:get({?MODULE, outcomes}),
    maps:from_list([{Outcome, counters:get(Counters, place(Outcome, ?OUTCOMES))} || Outcome <- ?OUTCOMES]).

%% @doc Give the server settings that make it restart, and cast meanwhile.
restart(Settings) ->
    Self = self(),
    {Caster, Monitor} = spawn_monitor(fun() -> Self ! {casting, self()}, cast_on() end),
    receive {casting, Caster} -> ok end,
    Result = dev_websocket:start(Settings),
    Caster ! stop,
    receive
        {'DOWN', Monitor, process, Caster, normal} -> Result
    end.

%%% Private functions.

cast_on() ->
    cast(#{<<"topic">> => <<"restart">>}),
    receive
        stop -> ok
    after 0 -> cast_on()
    end.

name(Number) -> list_to_atom("soak_source_" ++ integer_to_list(Number)).

place(Item, [Item | _]) -> 1;
place(Item, [_ | Items]) -> 1 + place(Item, Items).

pace_number(Pace) ->
    atomics:put(persistent_term:get({?MODULE, pace}), 1, place(Pace, ?PACES)).

source(Seed, Number) ->
    rand:seed(exsss, {Seed, Number, 0}),
    work(#source{number = Number}).

work(Source) ->
    Number = atomics:get(persistent_term:get({?MODULE, pace}), 1),
    case lists:nth(Number, ?PACES) of
        rest ->
            receive
                {rest, From, Ref} -> From ! {at_rest, Ref};
                go -> ok
            end,
            work(Source);
        Pace ->
            work(train(Pace, Source))
    end.

%% A train of casts, and perhaps a pause.
train(steady, Source) ->
    Next = repeat(rand:uniform(40), fun message/1, fun cast/1, Source),
    pause(rand:uniform(4)),
    Next;
train(full, Source) ->
    repeat(200, fun message/1, fun cast/1, Source);
train(heavy, Source) ->
    repeat(20, fun heavy/1, fun cast/1, Source);
train(idle_work, Source) ->
    % The same without the engine.
    repeat(20, fun message/1, fun(Message) -> erlang:phash2(term_to_binary(Message)) end, Source).

pause(Milliseconds) ->
    receive
    after Milliseconds -> ok
    end.

repeat(0, _Make, _Do, Source) ->
    Source;
repeat(Count, Make, Do, Source) ->
    {Message, Next} = Make(Source),
    _ = Do(Message),
    repeat(Count - 1, Make, Do, Next).

message(Source) ->
    case rand:uniform(1000) of
        1 -> {<<"a text without topics">>, Source};
        2 when Source#source.number =:= 0 -> {#{<<"topic">> => <<"soak:0">>, <<"data">> => padding(?TOO_LARGE)}, Source};
        _ -> numbered(Source, random_size(rand:uniform(1000)))
    end.

%% Most are small, few are large.
random_size(N) when N =< 900 -> rand:uniform(300);
random_size(N) when N =< 990 -> rand:uniform(2000);
random_size(N) when N =< 999 -> rand:uniform(16000);
random_size(_) -> rand:uniform(200000).

heavy(Source) ->
    numbered(Source, 30000 + rand:uniform(200000)).

numbered(Source = #source{number = Number, of_source = OfSource, of_topic = Counts}, Size) ->
    Topic = Number + ?SOURCES * (rand:uniform(?TOPICS div ?SOURCES) - 1),
    OfTopic = maps:get(Topic, Counts, 1),
    Message = #{
        <<"topic">> => <<"soak:", (integer_to_binary(Topic))/binary>>,
        <<"kind">> => <<"k", (integer_to_binary(rand:uniform(?KINDS) - 1))/binary>>,
        <<"reference">> => OfTopic,
        <<"anchor">> => OfSource,
        <<"nonce">> => Size,
        <<"data">> => padding(Size)
    },
    Next = Source#source{of_source = OfSource + 1, of_topic = Counts#{Topic => OfTopic + 1}},
    {with_new_topic(Message, OfSource rem 16 =:= 0, OfSource * ?SOURCES + Number), Next}.

%% Topics come and go.
with_new_topic(Message, true, Number) -> Message#{<<"order">> => Number};
with_new_topic(Message, false, _) -> Message.

padding(Size) ->
    binary:part(persistent_term:get({?MODULE, padding}), 0, Size).

cast(Message) ->
    % What `dev_websocket:cast/2' does, with the answer that it does not pass on.
    Outcome =
        case dev_websocket_engine:cast(Message) of
            ok -> ok;
            {dropped, Reason} -> Reason;
            {error, _} -> other
        end,
    Known = case lists:member(Outcome, ?OUTCOMES) of true -> Outcome; false -> other end,
    counters:add(persistent_term:get({?MODULE, outcomes}), place(Known, ?OUTCOMES), 1).
