import sys
root=sys.argv[1]
p=root+'/src/graph/run.c'
s=open(p).read()
s=s.replace('/* --- where things are','''#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
typedef struct { double best[4]; } prof; static prof P[4000]; static int pn; static double now(void){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return (double)t.tv_sec*1e3+(double)t.tv_nsec*1e-6;}
static void note(int s,int k,double d){ if(s>=pn)pn=s+1; if(P[s].best[k]==0||d<P[s].best[k])P[s].best[k]=d; }
static tl_plan*PP;
void tl_prof_dump(void); void tl_prof_dump(void){ if(!getenv("PROF"))return; struct{const char*n;double t[4];}agg[64]={0};int an=0; for(int s=0;s<pn&&s<PP->step_count;s++){const tl_step*st=&PP->step[s];const char*n=PP->graph->node[st->node].op->name;const tl_shape*o=&PP->value[st->out].shape;int in=PP->graph->node[st->node].input[0];const tl_shape*x=&PP->value[in].shape; int pc=PP->graph->node[st->node].first_param; int64_t kk=0; if(PP->graph->node[st->node].param_count){tl_shape ws=tl_tensor_get_shape(PP->graph->param[pc].value); if(ws.rank==4)kk=ws.dim[1];}
fprintf(stderr,"%3d %-12s %lldx%lldx%lld <- %lldx%lldx%lld k%lld pack %.3f fwd %.3f again %.3f bwd %.3f drop%d\\n",s,n,(long long)o->dim[1],(long long)o->dim[2],(long long)o->dim[3],(long long)x->dim[1],(long long)x->dim[2],(long long)x->dim[3],(long long)kk,P[s].best[0],P[s].best[1],P[s].best[2],P[s].best[3],PP->value[st->out].dropped);
int i;for(i=0;i<an&&strcmp(agg[i].n,n);i++);if(i==an){agg[an].n=n;an++;}for(int k=0;k<4;k++)agg[i].t[k]+=P[s].best[k];}
double all=0;
for(int i=0;i<an;i++){fprintf(stderr,"SUM %-12s pack %.2f fwd %.2f again %.2f bwd %.2f\\n",agg[i].n,agg[i].t[0],agg[i].t[1],agg[i].t[2],agg[i].t[3]);for(int k=0;k<4;k++)all+=agg[i].t[k];}
fprintf(stderr,"ALL %.2f\\n",all);}
/* --- where things are''',1)
def rep(a,b):
    global s
    assert a in s,a
    s=s.replace(a,b,1)
rep("    pack_trained(plan, step);\n","    if(!PP&&plan->options.training){PP=plan;}\n double t0=now();pack_trained(plan, step);double t1=now();if(plan->trained)note((int)(step-plan->step),0,t1-t0);\n")
rep("    plan->graph->node[step->node].op->forward(&call);\n    tl_plan_store(plan, s, TL_PASS_FORWARD);","    t0=now();plan->graph->node[step->node].op->forward(&call);tl_plan_store(plan, s, TL_PASS_FORWARD);if(plan->trained)note(s,1,now()-t0);\n")
rep("        plan->graph->node[step->node].op->forward(&call);\n        tl_plan_store(plan, t, TL_PASS_AGAIN);","        double t0=now();plan->graph->node[step->node].op->forward(&call);tl_plan_store(plan, t, TL_PASS_AGAIN);note(t,2,now()-t0);")
rep("    node->op->backward(&call);\n","    double t0=now();node->op->backward(&call);note(s,3,now()-t0);\n")
open(p,'w').write(s)
p=root+'/src/graph/plan.c'
s=open(p).read()
rep("void tl_plan_free(tl_plan *plan) {","void tl_prof_dump(void);\nvoid tl_plan_free(tl_plan *plan) {\n if(plan&&plan->options.training)tl_prof_dump();\n")
open(p,'w').write(s)
