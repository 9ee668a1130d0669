%%% @doc Fuzzes the terms that Erlang hands over: recorded and random ones, changed in their
%%% structure and in the bytes of their external format, are cast, published and
%%% sent, while a client reads all of it.
%%%
%%% These properties must hold: no call raises, each message is counted once, as published or
%%% as dropped, nothing is counted as a fault, and each frame is JSON without a key
%%% that is the node's own.
%%%
%%% The calls of a batch are in the file `current.term' of a folder before they are
%%% made, so they can be made again (`replay/1') when the VM did not survive them.
-module(term_fuzz).
-export([main/1, run/1, replay/1]).

-define(BATCH, 20).
%% Bytes of external format that are changed; larger terms are changed in a part.
-define(CHANGED_BYTES, 2000).
%% Larger messages take too long for a fuzzer.
-define(MESSAGE_BYTES, 50000).
-define(DROPPED, [
    <<"dropped_too_large">>, <<"dropped_overload">>, <<"dropped_no_audience">>, <<"dropped_repeated">>, <<"dropped_malformed">>
]).

%% @doc Run for so many seconds, from the command line, and end the VM.
-spec main([string()]) -> no_return().
main([Seconds, Folder]) ->
    Seed =
        case os:getenv("SEED") of
            false -> erlang:system_time(millisecond);
            Text -> list_to_integer(Text)
        end,
    io:format("SEED=~b~n", [Seed]),
    {ok, _} = application:ensure_all_started(dev_websocket),
    try run(#{seed => Seed, seconds => list_to_integer(Seconds), folder => Folder}) of
        #{calls := Calls, published := Published, dropped := Dropped, frames := Frames} ->
            io:format(
                "~b executions, ~b published, ~b dropped, ~b frames read~n",
                [Calls, Published, Dropped, Frames]
            ),
            halt(0)
    catch
        Class:Reason:Stack ->
            io:format("failed: ~p~n~p~n", [{Class, Reason}, Stack]),
            halt(1)
    end.

%% @doc Run for so many `seconds' or `calls' with a `seed'.
-spec run(#{seed := integer(), seconds => integer(), calls => integer(), folder => string()}) -> map().
run(#{seed := Seed} = Options) ->
    _ = rand:seed(exsss, Seed),
    start(),
    {Reader, Connection} = reader(),
    Until =
        case Options of
            #{seconds := Seconds} -> {time, erlang:monotonic_time(second) + Seconds};
            #{calls := Calls} -> {calls, Calls}
        end,
    State = #{
        reader => Reader,
        connection => Connection,
        folder => maps:get(folder, Options, none),
        bases => bases(),
        calls => 0,
        published => 0,
        dropped => 0
    },
    Done = batches(State, Until),
    Frames = stop_reader(Reader),
    ok = dev_websocket:unlisten(self()),
    maps:with([calls, published, dropped, frames], Done#{frames => Frames}).

%% @doc Make the calls of a file again.
-spec replay(string()) -> [term()].
replay(File) ->
    start(),
    {ok, Bytes} = file:read_file(File),
    [call(Call) || Call <- binary_to_term(Bytes)].

start() ->
    ok = dev_websocket:stop(),
    ok = dev_websocket:start(#{send_buffer_bytes => 64 * 1024 * 1024, max_inbound_rate => 0}).

%%% Batches.

batches(#{calls := Calls} = State, Until) ->
    IsDone =
        case Until of
            {time, Time} -> erlang:monotonic_time(second) >= Time;
            {calls, Most} -> Calls >= Most
        end,
    case IsDone of
        true -> State;
        false -> batches(batch(State), Until)
    end.

batch(#{folder := Folder, bases := Bases, connection := Connection} = State) ->
    Calls = [random_call(Bases, Connection) || _ <- lists:seq(1, ?BATCH)],
    File = remember(Folder, Calls),
    Before = dev_websocket:stats(),
    Counted = lists:sum([call(Call) || Call <- Calls]),
    After = dev_websocket:stats(),
    Gained = fun(Name) -> maps:get(Name, After) - maps:get(Name, Before) end,
    Published = Gained(<<"publications">>),
    Dropped = lists:sum([Gained(Name) || Name <- ?DROPPED]),
    {Counted, 0, Counted} = {Published + Dropped, Gained(<<"panics">>), Counted},
    is_read(State),
    forget(File),
    State#{
        calls := maps:get(calls, State) + ?BATCH,
        published := maps:get(published, State) + Published,
        dropped := maps:get(dropped, State) + Dropped
    }.

remember(none, _) ->
    none;
remember(Folder, Calls) ->
    File = filename:join(Folder, "current.term"),
    ok = file:write_file(File, term_to_binary(Calls)),
    File.

forget(none) -> ok;
forget(File) -> file:delete(File).

%%% Calls.

random_call(Bases, Connection) ->
    Message = message(Bases),
    case rand:uniform(9) of
        1 -> {publish, Message, origin(Bases)};
        2 -> {send, Connection, Message};
        3 -> {send, Connection, {pick([text, binary, other]), pick([Message, changed(<<"Grüße"/utf8>>)])}};
        4 -> {publish_part, begun(), slot(), pick([first_hole, last_hole, next, next, next, slot()]), pick([0, 0, 0, 0, 1, 7, slot()]), part(Bases), pick([true, false, true, false, Message])};
        5 ->
            {From, To} = pick([{slot(), slot()}, {undefined, undefined}, {slot(), undefined}]),
            {publish_gap, begun(), slot(), From, To, pick([not_cached, withheld, not_followed, limit, limit, Message])};
        6 -> {ask, pick([{interest, [Message]}, {slot_mark, [Message]}, {set_slot_mark, [Message, slot()]},
                         {output_events, [pick([Message, line()]), pick([3, slot()])]}, {count_result, [pick([hints, Message])]}, {set_tails, [slot(), pick([slot(), Message]), pick([cache, no_local_store, no_node, off, Message])]}])};
        _ -> {cast, Message}
    end.

%% @doc Events of a part of a slot, or a term that is none.
part(Bases) ->
    Message = message(Bases),
    pick([
        [{message(Bases), origin(Bases)} || _ <- lists:seq(1, rand:uniform(3))],
        [{{json, pick([line(), Message])}, pick([#{process => <<"p">>}, origin(Bases)])} || _ <- lists:seq(1, rand:uniform(3))],
        [{changed(<<"x">>), #{}} || _ <- lists:seq(1, pick([0, 3, 255, 256, 257]))],
        pick([Message, [Message], [{Message, #{}} | Message]])
    ]).

%% @doc A line of an output, or what may pass for one.
line() ->
    pick([<<"{\"_e\":1,\"process\":\"x\",\"a\":[1.5,null,{}]}">>, <<"{\"_e\":1}\n{\"_e\":1}">>, <<"{\"_e\":2}">>, changed(<<"{\"_e\":1}">>)]).

%% @doc Make a call; gives how many messages it has to have counted.
call({cast, Message}) ->
    {ok, <<"OK">>} = dev_websocket:cast(Message, #{}),
    1;
call({publish, Message, Origin}) ->
    case hb_websocket_nif:publish(Message, Origin) of
        large -> counted(1, hb_websocket_nif:publish_large(Message, Origin));
        Answer -> counted(1, Answer)
    end;
call({publish_part, Process, Begin, Slot, Part, Events, IsLast}) ->
    %% A refused mark does not change the one that the process may have.
    _ = hb_websocket_nif:set_slot_mark(Process, Begin),
    Before = hb_websocket_nif:slot_mark(Process),
    Publications = publications(),
    %% A random slot is seldom the next one.
    At = case {Slot, Before} of
        {first_hole, {ok, _, _, [{From, _} | _]}} -> From;
        {last_hole, {ok, _, _, [_ | _] = Holes}} -> element(2, lists:last(Holes));
        {next, {ok, Next, _, _}} -> Next;
        _ -> Slot
    end,
    Answer =
        case hb_websocket_nif:publish_slot(Process, At, Part, Events, IsLast) of
            large -> hb_websocket_nif:publish_slot_large(Process, At, Part, Events, IsLast);
            Inline -> Inline
        end,
    Published = publications() - Publications,
    is_next(Answer, Before, hb_websocket_nif:slot_mark(Process), {At, Part, Events, IsLast, Published}),
    case Answer of
        ok -> Published;
        {dropped, overload} -> 0;
        {error, no_mark} -> 0;
        {error, {expected, _, _}} -> 0;
        _ -> counted(0, Answer)
    end;
call({publish_gap, Process, Begin, From, To, Reason}) ->
    _ = hb_websocket_nif:set_slot_mark(Process, Begin),
    Before = hb_websocket_nif:slot_mark(Process),
    Answers = [
        hb_websocket_nif:publish_slot_gap(Process, From, To, Reason)
        | [hb_websocket_nif:publish_slot_gap(Process, Next, Next + 2, Reason) || {ok, Next, _, _} <- [Before]]
    ],
    0 = lists:sum([gap_counted(Answer) || Answer <- Answers]);
call({ask, {Name, Arguments}}) ->
    case apply(hb_websocket_nif, Name, Arguments) of
        ok -> 0;
        none -> 0;
        {ok, Lines, Omitted} when is_list(Lines), is_integer(Omitted) -> 0;
        {ok, List, _, _} when is_list(List) -> 0;
        {ok, _, _, List} when is_list(List) -> 0;
        {error, {bad_argument, _}} -> 0
    end;
call({send, Connection, Payload}) ->
    case dev_websocket:send(Connection, Payload) of
        ok -> 0;
        {error, Reason} when Reason =:= busy; Reason =:= too_large -> 0;
        {error, {bad_argument, _}} -> 0
    end.

gap_counted(ok) -> 0;
gap_counted({dropped, overload}) -> 0;
gap_counted({error, no_mark}) -> 0;
gap_counted({error, {expected, _, _}}) -> 0;
gap_counted({error, {bad_argument, _}}) -> 0.

%% @doc The mark moves by the published events, and only then.
is_next(ok, {ok, Slot, At, _}, {ok, Now, Next, _}, {Slot, Part, Events, IsLast, Published}) ->
    Published = max(0, Part + length(Events) - At),
    {Now, Next} = case IsLast of
        true -> {Slot + 1, 0};
        false -> {Slot, At + Published}
    end;
is_next(ok, {ok, Next, At, _}, {ok, Next, At, _}, {Slot, _, _, _, _}) when Slot < Next -> ok;
is_next(_, {ok, _, _, _} = Mark, Mark, {_, _, _, _, 0}) -> ok;
is_next(_, none, _, {_, _, _, _, 0}) -> ok;
is_next(_, {error, _}, _, {_, _, _, _, 0}) -> ok.

publications() -> maps:get(<<"publications">>, dev_websocket:stats()).

counted(Events, ok) when is_list(Events) -> length(Events);
counted(Count, ok) -> Count;
counted(_, {dropped, Reason}) when is_atom(Reason) -> 1;
counted(_, {error, {bad_origin, _}}) -> 0;
counted(_, {error, {bad_argument, _}}) -> 0.

%%% The client.

%% @doc A process that reads everything, and the number of its connection.
reader() ->
    ok = dev_websocket:listen(self()),
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Main = self(),
    Reader = spawn_monitor(fun() ->
        {ok, Client} = ws_client:connect(Uri, "topic=*"),
        ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => <<"here">>}),
        read(Main, Client, 0)
    end),
    receive
        {dev_websocket, Connection, {text, <<"here">>}} -> {Reader, Connection}
    after 10000 -> error(nobody_connected)
    end.

read(Main, Client, Frames) ->
    receive
        {stop, Ref} -> Main ! {Ref, Frames}
    after 0 ->
        %% Something is always published before it is stopped.
        Frame = #{<<"type">> := _} = next(Client, none),
        is_for_all(maps:get(<<"data">>, Frame, null)),
        read(Main, Client, Frames + 1)
    end.

%% @doc The next frame. There may be none for long on a machine that is busy, but
%% not while others are published.
next(Client, Published) ->
    try ws_client:recv_json(Client)
    catch
        error:{no_text_frame, timeout} ->
            case maps:get(<<"publications">>, dev_websocket:stats()) of
                More when is_integer(Published), More > Published -> error({no_frame_for_publications, Published, More});
                Now -> next(Client, Now)
            end
    end.

is_for_all(Map) when is_map(Map) ->
    maps:foreach(
        fun(Key, Value) ->
            nomatch = re:run(Key, "^(priv|commitments$)", [caseless]),
            is_for_all(Value)
        end,
        Map
    );
is_for_all(List) when is_list(List) -> lists:foreach(fun is_for_all/1, List);
is_for_all(_) -> ok.

%% @doc Fail when the client did.
is_read(#{reader := {Pid, Monitor}}) ->
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> error({reader, Reason})
    after 0 -> ok
    end.

stop_reader({Pid, Monitor}) ->
    Ref = make_ref(),
    Pid ! {stop, Ref},
    dev_websocket:cast(#{<<"topic">> => <<"end">>}, #{}),
    receive
        {Ref, Frames} ->
            true = demonitor(Monitor, [flush]),
            Frames;
        {'DOWN', Monitor, process, Pid, Reason} ->
            error({reader, Reason})
    after 60000 -> error(reader_is_stuck)
    end.

%%% Terms.

bases() ->
    Recorded = [recorded:term(Name) || Name <- recorded:names()],
    Parts = lists:append([parts(Term, 3) || Term <- Recorded]),
    [Term || Term <- Parts, erlang:external_size(Term) < ?MESSAGE_BYTES].

%% @doc The term and its parts, to that depth.
parts(Term, Depth) when Depth > 0, is_map(Term) ->
    [Term | lists:append([parts(Value, Depth - 1) || Value <- maps:values(Term)])];
parts(Term, Depth) when Depth > 0, is_list(Term), length(Term) > 0 ->
    [Term | lists:append([parts(Value, Depth - 1) || Value <- Term])];
parts(Term, _) ->
    [Term].

message(Bases) ->
    case rand:uniform(10) of
        1 -> pick(Bases);
        2 -> recorded:mutated(pick(Bases));
        3 -> random_terms_tests:term(rand:uniform(4));
        4 -> changed(random_terms_tests:term(rand:uniform(4)));
        _ -> changed(pick(Bases))
    end.

origin(Bases) ->
    Origin = #{
        process => process(),
        slot => slot(),
        hashpath => <<"h/k">>,
        path => <<"/p~process@1.0/compute&slot=1">>,
        assignment => <<"a">>,
        source => <<"push">>,
        from => [<<"f">>, rand:bytes(32)],
        topics => pick([<<"t">>, [<<"t">>, <<"process:x">>], message(Bases)])
    },
    case rand:uniform(4) of
        1 -> Origin;
        2 -> maps:with([pick(maps:keys(Origin)), pick(maps:keys(Origin))], Origin);
        _ -> changed(Origin)
    end.

%% @doc Mostly a process that can have a mark, some of them again and again.
begun() -> pick([<<"p">>, <<"q">>, <<"r">>, rand:bytes(32), recorded:process(), process()]).

process() -> pick([<<"p">>, rand:bytes(32), recorded:process(), <<>>, p, rand:bytes(300)]).

slot() -> pick([rand:uniform(1 bsl 40), rand:uniform(10), 0, -1, 1 bsl 64, slot]).

%% @doc The term with something of its external format changed.
changed(Term) ->
    case erlang:external_size(Term) =< ?CHANGED_BYTES orelse rand:uniform(5) =:= 1 of
        true -> decoded(term_to_binary(Term), Term, 20);
        false -> in_a_part(Term)
    end.

in_a_part(Map) when is_map(Map), map_size(Map) > 0 ->
    Key = pick(maps:keys(Map)),
    case rand:uniform(4) of
        1 -> (maps:remove(Key, Map))#{changed(Key) => maps:get(Key, Map)};
        _ -> Map#{Key := changed(maps:get(Key, Map))}
    end;
in_a_part([_ | _] = List) ->
    try lists:split(rand:uniform(length(List)) - 1, List) of
        {Before, [Item | After]} -> Before ++ [changed(Item) | After]
    catch
        %% It is improper.
        error:_ -> [changed(hd(List)) | tl(List)]
    end;
in_a_part(Tuple) when is_tuple(Tuple), tuple_size(Tuple) > 0 ->
    Place = rand:uniform(tuple_size(Tuple)),
    setelement(Place, Tuple, changed(element(Place, Tuple)));
in_a_part(Term) ->
    decoded(term_to_binary(Term), Term, 20).

%% @doc The first of some changes that is a term; the term itself if none is.
decoded(_, Term, 0) ->
    Term;
decoded(Bytes, Term, Tries) ->
    try binary_to_term(edited(Bytes, rand:uniform(4)), safety()) of
        Changed ->
            case has_fun(Changed) of
                true -> decoded(Bytes, Term, Tries - 1);
                false -> Changed
            end
    catch
        error:badarg -> decoded(Bytes, Term, Tries - 1)
    end.

%% @doc Whether there is a fun in it. The VM takes some that are damaged, and dies
%% of them in its own `term_to_binary/1' (seen with OTP 25).
has_fun(Fun) when is_function(Fun) -> true;
has_fun(Map) when is_map(Map) -> lists:any(fun({Key, Value}) -> has_fun(Key) orelse has_fun(Value) end, maps:to_list(Map));
has_fun([Head | Tail]) -> has_fun(Head) orelse has_fun(Tail);
has_fun(Tuple) when is_tuple(Tuple) -> has_fun(tuple_to_list(Tuple));
has_fun(_) -> false.

%% @doc New atoms are never given back, so there is an end to them.
safety() ->
    case erlang:system_info(atom_count) > erlang:system_info(atom_limit) div 2 of
        true -> [safe];
        false -> []
    end.

edited(Bytes, 0) ->
    %% A compressed term may claim any size.
    case Bytes of
        <<131, 80, _/binary>> -> <<>>;
        _ -> Bytes
    end;
edited(Bytes, Edits) ->
    Place = rand:uniform(byte_size(Bytes)) - 1,
    <<Before:Place/binary, Byte, After/binary>> = Bytes,
    Edited =
        case rand:uniform(7) of
            1 -> <<Before/binary, (Byte bxor (1 bsl (rand:uniform(8) - 1))), After/binary>>;
            2 -> <<Before/binary, (rand:uniform(256) - 1), After/binary>>;
            3 -> <<Before/binary, (tag()), After/binary>>;
            4 -> <<Before/binary, (tag()), Byte, After/binary>>;
            5 -> <<Before/binary, After/binary>>;
            6 -> <<Before/binary, Byte, (binary:part(After, 0, min(8, byte_size(After))))/binary, After/binary>>;
            7 -> <<Before/binary, (Byte + 1), After/binary>>
        end,
    case Edited of
        <<>> -> edited(Bytes, Edits - 1);
        _ -> edited(Edited, Edits - 1)
    end.

%% @doc The tag of a term in the external format.
tag() ->
    pick([70, 77, 88, 89, 90, 97, 98, 99, 100, 104, 105, 106, 107, 108, 109, 110, 111, 115, 116, 118, 119, 120]).

pick(List) ->
    lists:nth(rand:uniform(length(List)), List).
