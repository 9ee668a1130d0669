%%% @doc Recorded calls of a device of a real node, as messages to cast.
%%%
%%% The recordings stay as they are; each round of the feed takes them a little
%%% further, as if the processes had gone on.
-module(feed_recordings).
-export([events/1, message/2]).

%% @doc Everything that is worth a message, in the order it happened: per slot its
%% outbox messages, then its output.
events(Folder) ->
    Slots =
        lists:append([lua_process(Folder), two_processes(Folder), hyper_aos(Folder)]),
    Last = lists:max([Slot || {_, Slot, _} <- Slots]),
    Signed = read(Folder, "ao_message_signed"),
    lists:append([slot_events(Slot, Last + 1) || Slot <- Slots]) ++ [{message, maps:get(message, Signed)}].

%% @doc The message of an event in a round: round 0 is the recording.
message({message, Message}, Round) ->
    maps:map(fun(Key, Value) -> vary(string:lowercase(Key), Value, Round) end, Message);
message({output, Process, {Slot, PerRound}, Output}, Round) ->
    #{
        <<"topic">> => <<"results">>,
        <<"process">> => Process,
        <<"slot">> => Slot + Round * PerRound,
        <<"output">> => message({message, Output}, Round)
    }.

%%% Private functions.

lua_process(Folder) ->
    [
        {maps:get(process_id, Facts), maps:get(slot, Facts), maps:get(<<"results">>, Base)}
     ||
        Slot <- ["0", "1", "2"],
        #{base := Base, facts := Facts} <- [read(Folder, "compute_stack_slot" ++ Slot ++ "_loaded")]
    ].

two_processes(Folder) ->
    #{calls := Calls} = read(Folder, "push_flow"),
    [
        {Process, Slot, Results}
     ||
        #{key := <<"compute">>, process_id := Process, slot := Slot, results := Results} <- Calls
    ].

%% @doc The recording is of the results alone, so their process has no id here.
hyper_aos(Folder) ->
    [{<<"hyper-aos">>, 1, read(Folder, "results_live_hyper_aos")}].

read(Folder, Name) ->
    {ok, [Term]} = file:consult(filename:join(Folder, Name ++ ".term")),
    Term.

slot_events({Process, Slot, Results}, PerRound) ->
    [{message, Message} || Message <- maps:get(<<"outbox">>, Results, [])] ++
        [{output, Process, {Slot, PerRound}, maps:get(<<"output">>, Results)}].

%% @doc A price walks around what was recorded; a count goes on from it.
vary(_Key, Value, 0) ->
    Value;
vary(<<"price">>, Value, Round) ->
    Price = binary_to_float(Value) + math:sin(Round / 7) + rand:uniform() / 10,
    float_to_binary(Price, [{decimals, 2}]);
vary(<<"body">>, <<"count=", Count/binary>>, Round) ->
    <<"count=", (integer_to_binary(binary_to_integer(Count) + 2 * Round))/binary>>;
vary(_Key, Value, _Round) ->
    Value.
