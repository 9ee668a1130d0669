%% The publishing side of an Erlang server under test: commands on stdin, one flat JSON object a line, answers on stdout.
%% The same protocol as the Rust servers' (load/src/feed.rs), and more that only makes sense inside an Erlang VM.
-module(bench_feed).

-export([serve/2, serve/3]).

-define(MAX_MESSAGES, 50000000).
-define(MAX_SECONDS, 600).

%% Prints the ready line, then carries out commands until `quit` or the end of stdin. Publish is called as
%% Publish(Topic, Payload) from whatever process publishes; Extra are more commands, name => fun(Command) -> Answer. A
%% server that publishes messages of several kinds gives instead how each is made, kind => fun(Topic, Payload) -> Message,
%% and how any is published; the plain one is `topic`.
serve(Port, Publish) ->
    serve(Port, Publish, #{}).

serve(Port, Publish, Extra) when is_function(Publish) ->
    Make = fun(Topic, Payload) -> {Topic, Payload} end,
    serve(Port, {#{<<"topic">> => Make}, fun({Topic, Payload}) -> Publish(Topic, Payload) end}, Extra);
serve(Port, How, Extra) ->
    bench_payload:init(),
    ok = io:setopts(standard_io, [binary]),
    say(#{ready => true, port => Port, pid => list_to_integer(os:getpid())}),
    loop(How, Extra).

loop(How, Extra) ->
    case io:get_line("") of
        Line when is_binary(Line) ->
            Command = bench_json:decode(Line),
            case maps:get(<<"cmd">>, Command, none) of
                <<"quit">> -> halt(0);
                Name -> say(carry_out(Name, Command, How, Extra)), loop(How, Extra)
            end;
        _ ->
            halt(0)
    end.

carry_out(Name, Command, How, Extra) ->
    try run(Name, Command, How, Extra) of
        Answer -> Answer#{event => done}
    catch
        Class:Reason:Stack ->
            #{event => error, message => iolist_to_binary(io_lib:format("~p:~p ~p", [Class, Reason, Stack]))}
    end.

say(Answer) ->
    io:put_chars([bench_json:encode(Answer), $\n]).

run(<<"burst">>, #{<<"topic">> := Topic, <<"count">> := Count, <<"size">> := Size} = Command, How, _) ->
    Publish = publisher(Command, How),
    Procs = maps:get(<<"procs">>, Command, 1),
    Each = min(Count, ?MAX_MESSAGES) div Procs,
    timed(Each * Procs, fun() ->
        parallel(Procs, fun(N) -> burst(Publish, Topic, stream(Command) + N, Each, bench_payload:padding(Size)) end)
    end);
run(<<"topics_burst">>, #{<<"topics">> := Topics, <<"per_topic">> := PerTopic, <<"size">> := Size} = Command, How, _) ->
    Publish = publisher(Command, How),
    Stride = max(1, maps:get(<<"stride">>, Command, Topics)),
    Names = [{<<"t", (integer_to_binary(N))/binary>>, stream(Command) + N div Stride} || N <- lists:seq(0, Topics - 1)],
    Padding = bench_payload:padding(Size),
    timed(Topics * PerTopic, fun() ->
        parallel(1, fun(_) ->
            [Publish(Name, bench_payload:make(Stream, Seq, Padding))
             || Seq <- lists:seq(0, PerTopic - 1), {Name, Stream} <- Names],
            ok
        end)
    end);
run(<<"steady">>, Command, How, _) ->
    Publish = publisher(Command, How),
    {Rate, Seconds} = {maps:get(<<"rate">>, Command), maps:get(<<"seconds">>, Command)},
    Pinging = maps:get(<<"ping_pong">>, Command, false),
    Ping = case Pinging of
        true -> bench_probe:start_ping_pong(min(Seconds, ?MAX_SECONDS), 1);
        false -> none
    end,
    Count = trunc(min(Seconds, ?MAX_SECONDS) * Rate),
    Answer = timed(Count, fun() ->
        parallel(1, fun(_) -> steady(Publish, Command, Count, 1.0e9 / Rate) end)
    end),
    case Ping of
        none -> Answer;
        _ -> maps:merge(Answer, #{ping_pong => bench_probe:await(Ping)})
    end;
run(<<"ping_pong">>, #{<<"seconds">> := Seconds}, _, _) ->
    #{ping_pong => bench_probe:await(bench_probe:start_ping_pong(min(Seconds, ?MAX_SECONDS), 1))};
run(<<"cast_cost">>, Command, How, _) ->
    bench_probe:cast_cost(Command, How);
run(<<"memory">>, _, _, _) ->
    maps:from_list(erlang:memory());
run(Name, Command, _, Extra) ->
    case Extra of
        #{Name := Fun} -> Fun(Command);
        _ -> error({unknown_command, Name})
    end.

publisher(Command, {Kinds, Publish}) ->
    Make = maps:get(maps:get(<<"kind">>, Command, <<"topic">>), Kinds),
    fun(Topic, Payload) -> Publish(Make(Topic, Payload)) end.

stream(Command) ->
    maps:get(<<"stream">>, Command, 0).

burst(Publish, Topic, Stream, Count, Padding) ->
    burst(Publish, Topic, Stream, 0, Count, Padding).

burst(_, _, _, Count, Count, _) -> ok;
burst(Publish, Topic, Stream, Seq, Count, Padding) ->
    Publish(Topic, bench_payload:make(Stream, Seq, Padding)),
    burst(Publish, Topic, Stream, Seq + 1, Count, Padding).

steady(Publish, #{<<"topic">> := Topic, <<"size">> := Size} = Command, Count, Gap) ->
    Start = erlang:monotonic_time(nanosecond),
    steady(Publish, Topic, stream(Command), 0, Count, bench_payload:padding(Size), Start, Gap).

steady(_, _, _, Count, Count, _, _, _) -> ok;
steady(Publish, Topic, Stream, Seq, Count, Padding, Start, Gap) ->
    Due = Start + trunc(Seq * Gap),
    receive after max(0, (Due - erlang:monotonic_time(nanosecond)) div 1000000) -> ok end,
    Publish(Topic, bench_payload:make(Stream, Seq, Padding)),
    steady(Publish, Topic, Stream, Seq + 1, Count, Padding, Start, Gap).

timed(Count, Fun) ->
    First = os:system_time(nanosecond),
    Begun = erlang:monotonic_time(nanosecond),
    Fun(),
    #{count => Count, first_ns => First, publish_ns => erlang:monotonic_time(nanosecond) - Begun}.

%% Runs Fun(0), Fun(1), ... in processes of their own, as an application's publishers are.
parallel(Procs, Fun) ->
    Running = [spawn_monitor(fun() -> Fun(N) end) || N <- lists:seq(0, Procs - 1)],
    [receive {'DOWN', Ref, process, Pid, normal} -> ok;
             {'DOWN', Ref, process, Pid, Reason} -> error({publisher, Reason})
     end || {Pid, Ref} <- Running],
    ok.
